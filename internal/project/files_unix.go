//go:build !windows

package project

import (
	"errors"
	"os"
	"syscall"

	"github.com/gofrs/flock"
)

func replace(from, to string) error { return os.Rename(from, to) }

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	// Some file systems (FUSE, network) cannot sync a directory and say so;
	// there is nothing better to be had from them.
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// removeLockFile removes the file while it is still locked, so that nobody
// can lock the old one and believe it.
func removeLockFile(l *flock.Flock) error { return ignoreMissing(os.Remove(l.Path())) }
