package project

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/gofrs/flock"
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

// syncDir does nothing: NTFS journals renames.
func syncDir(string) error { return nil }

func isDiskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func isReadOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }

// removeLockFile lets go first: Windows does not remove an open file. One that
// a waiting command holds open stays, and is its lock from now on.
func removeLockFile(l *flock.Flock) error {
	if err := l.Unlock(); err != nil {
		return err
	}
	err := os.Remove(l.Path())
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		return nil
	}
	return ignoreMissing(err)
}
