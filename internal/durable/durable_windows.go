package durable

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"

	"github.com/hostctl/hostctl/internal/wait"
)

// replace renames over a file that another process may have open for the
// moment it takes to read it, which Windows refuses.
func replace(from, to string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return wait.Until(ctx, 10*time.Millisecond, func(context.Context) error {
		err := os.Rename(from, to)
		if err == nil || errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return err
		}
		return wait.Permanent(err)
	})
}

// SyncDir does nothing: NTFS journals renames.
func SyncDir(string) error { return nil }
