package qemu

import (
	"runtime"

	"github.com/hostctl/hostctl/internal/kvm"
)

// hardware looks for KVM.
func hardware() acceleration {
	doubt, err := kvm.Probe()
	return acceleration{arch: runtime.GOARCH, name: "kvm", err: err, doubt: doubt}
}
