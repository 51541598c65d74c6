package qemu

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// hardware asks the kernel for the Hypervisor framework.
func hardware() acceleration {
	hvf := acceleration{arch: runtime.GOARCH, name: "hvf"}
	on, err := unix.SysctlUint32("kern.hv_support")
	if err != nil {
		hvf.err = err
	} else if on == 0 {
		hvf.err = errors.New("this Mac has no Hypervisor framework (kern.hv_support is 0)")
	}
	return hvf
}
