//go:build !windows

package libvirt

import "syscall"

// detached gives the session's libvirtd a session of its own: closing the
// terminal or pressing Ctrl-C in it does not reach the guests.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
