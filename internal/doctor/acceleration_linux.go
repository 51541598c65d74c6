package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/hostctl/hostctl/internal/kvm"
)

// mendAcceleration says what keeps guests from KVM, unless the provider's
// notice says it as well, and how to get it.
func mendAcceleration() (why, fix string) {
	doubt, err := kvm.Probe()
	info, _ := os.ReadFile("/proc/cpuinfo") // without it, nothing is said of the CPU
	return mendKVM(doubt, err, string(info))
}

const slow = "guests run under emulation, about ten times slower"

func mendKVM(doubt string, err error, cpuinfo string) (why, fix string) {
	switch {
	case doubt != "":
		return "", "switch virtualisation (VT-x, AMD-V) on in the firmware; where this computer is itself a virtual machine, nested virtualisation on its host"
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("no KVM: %v; %s", err, slow), "sudo usermod -aG kvm $USER, then log in again"
	case !errors.Is(err, fs.ErrNotExist):
		return "", ""
	case runtime.GOARCH == "amd64" && strings.Contains(cpuinfo, "GenuineIntel"):
		return "", "sudo modprobe kvm_intel"
	case runtime.GOARCH == "amd64" && strings.Contains(cpuinfo, "AuthenticAMD"):
		return "", "sudo modprobe kvm_amd"
	}
	return "", "sudo modprobe kvm"
}
