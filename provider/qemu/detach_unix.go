//go:build !windows

package qemu

import "syscall"

// detached gives QEMU a session of its own: closing the terminal or pressing
// Ctrl-C in it does not reach the guest.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
