//go:build !windows

package doctor

import "golang.org/x/sys/unix"

// access asks whether files can be made in dir, without making one.
func access(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
