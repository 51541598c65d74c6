// Package durable puts files in place so that they are still there after the
// machine's power went.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace renames from over to, which lies in the same directory: after a crash
// to is the old file or the new one. What from holds is for the caller to sync.
// A from that cannot be put there is removed.
func Replace(from, to string) error {
	if err := replace(from, to); err != nil {
		return errors.Join(err, os.Remove(from))
	}
	return SyncDir(filepath.Dir(to))
}
