package project

import (
	"errors"
	"os"

	"github.com/gofrs/flock"
	"golang.org/x/sys/windows"
)

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
