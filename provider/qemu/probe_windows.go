package qemu

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
)

// hardware asks the Windows Hypervisor Platform whether it is on:
// WHvGetCapability(WHvCapabilityCodeHypervisorPresent).
func hardware() acceleration {
	return acceleration{arch: runtime.GOARCH, name: "whpx", err: hypervisorPresent()}
}

func hypervisorPresent() error {
	get := windows.NewLazySystemDLL("WinHvPlatform.dll").NewProc("WHvGetCapability")
	if err := get.Find(); err != nil {
		return errors.New("the Windows feature HypervisorPlatform is not installed")
	}
	const capabilityHypervisorPresent = 0
	var present uint32
	var written uint32
	hr, _, _ := get.Call(capabilityHypervisorPresent, uintptr(unsafe.Pointer(&present)),
		unsafe.Sizeof(present), uintptr(unsafe.Pointer(&written)))
	if hr != 0 {
		return fmt.Errorf("WHvGetCapability: 0x%08x", uint32(hr))
	}
	if present == 0 {
		return errors.New("the Windows feature HypervisorPlatform is off")
	}
	return nil
}
