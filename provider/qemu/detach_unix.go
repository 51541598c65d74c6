//go:build !windows

package qemu

import (
	"fmt"
	"os"
	"syscall"
)

// detached gives QEMU a session of its own: closing the terminal or pressing
// Ctrl-C in it does not reach the guest.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// checkPrivate refuses a directory that others may have prepared or can enter.
func checkPrivate(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("socket directory %s is not a directory", dir)
	case ok && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("socket directory %s belongs to user %d", dir, st.Uid)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("socket directory %s is open to others (mode %04o, not 0700)", dir, info.Mode().Perm())
	}
	return nil
}
