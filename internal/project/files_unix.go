//go:build !windows

package project

import (
	"errors"
	"os"
	"syscall"

	"github.com/gofrs/flock"
)

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// removeLockFile removes the file while it is still locked, so that nobody
// can lock the old one and believe it.
func removeLockFile(l *flock.Flock) error { return ignoreMissing(os.Remove(l.Path())) }
