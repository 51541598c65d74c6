//go:build !windows

package run

import "syscall"

// Detached gives a program that outlives this one a session of its own:
// closing the terminal or pressing Ctrl-C in it does not reach it.
func Detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
