package libvirt

import "syscall"

// detached has nothing to do: libvirtd does not run here.
func detached() *syscall.SysProcAttr { return nil }
