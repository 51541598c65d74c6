package run

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// Detached takes a program that outlives this one off the console: closing it
// or pressing Ctrl-C in it does not reach it.
func Detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}
