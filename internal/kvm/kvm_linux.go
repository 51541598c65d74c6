package kvm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Of linux/kvm.h.
const (
	kvmGetAPIVersion  = 0xae00
	kvmCreateVM       = 0xae01
	kvmCheckExtension = 0xae03

	kvmAPIVersion   = 12  // the only one since Linux 2.6.22
	kvmCapARMIPABit = 165 // KVM_CAP_ARM_VM_IPA_SIZE
)

// Probe says whether guests of this host's own architecture can run on KVM. err
// says why they cannot at all; doubt why they should not unless asked for, though
// nothing refuses it outright.
//
// On amd64 a /dev/kvm that opens and even creates VMs proves nothing: a kernel
// whose KVM has no hardware beneath it (paravirtual) offers it too, runs firmware,
// and hangs in the first kernel. The CPU must show vmx or svm. On arm64 there is
// no such flag and no such doubt: the kernel has /dev/kvm only when it was booted
// at exception level 2, the hypervisor's own.
func Probe() (doubt string, err error) {
	err = open()
	if runtime.GOARCH != "amd64" {
		return "", err
	}
	info, readErr := os.ReadFile("/proc/cpuinfo")
	switch {
	case readErr != nil && err == nil:
		return readErr.Error(), nil
	case readErr == nil && !hasVirtualisation(info):
		// Also when it does not open: permission for it would not help.
		return "/dev/kvm has no vmx or svm beneath it", err
	}
	return "", err
}

// open makes an empty VM.
func open() error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	version, err := ioctl(f.Fd(), kvmGetAPIVersion, 0)
	if err != nil {
		return fmt.Errorf("/dev/kvm: %w", err)
	}
	if version != kvmAPIVersion {
		return fmt.Errorf("/dev/kvm has API version %d, not %d", version, kvmAPIVersion)
	}
	// The machine type is 0, except that an arm64 CPU with less than 40 bits
	// of guest address space wants their number.
	var kind uintptr
	if runtime.GOARCH == "arm64" {
		if bits, err := ioctl(f.Fd(), kvmCheckExtension, kvmCapARMIPABit); err == nil {
			kind = bits
		}
	}
	vm, err := ioctl(f.Fd(), kvmCreateVM, kind)
	if err != nil {
		return fmt.Errorf("/dev/kvm creates no VM: %w", err)
	}
	return unix.Close(int(vm))
}

func ioctl(fd, request, arg uintptr) (uintptr, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, arg)
		if errno == 0 {
			return r, nil
		}
		if !errors.Is(errno, unix.EINTR) {
			return 0, errno
		}
	}
}

// hasVirtualisation looks for Intel's or AMD's flag in /proc/cpuinfo.
func hasVirtualisation(cpuinfo []byte) bool {
	for s := bufio.NewScanner(bytes.NewReader(cpuinfo)); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		if strings.TrimSpace(key) != "flags" {
			continue
		}
		flags := strings.Fields(value)
		return slices.Contains(flags, "vmx") || slices.Contains(flags, "svm")
	}
	return false
}
