package qemu

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// detached takes QEMU off the console: closing it or pressing Ctrl-C in it
// does not reach the guest.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}
