package doctor

import (
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"testing"
)

func TestMendKVM(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		return // modules have other names elsewhere
	}
	closed := &fs.PathError{Op: "open", Path: "/dev/kvm", Err: fs.ErrPermission}
	absent := &fs.PathError{Op: "open", Path: "/dev/kvm", Err: fs.ErrNotExist}
	for _, c := range []struct {
		name, doubt string
		err         error
		cpuinfo     string
		why, fix    string
	}{
		{"works", "", nil, "GenuineIntel", "", ""},
		{"no hardware", "no vmx", closed, "GenuineIntel", "", "switch virtualisation"},
		{"not permitted", "", closed, "GenuineIntel", "no KVM: open /dev/kvm: permission denied; guests run under emulation, about ten times slower",
			"sudo usermod -aG kvm $USER, then log in again"},
		{"no module on Intel", "", absent, "vendor_id : GenuineIntel", "", "sudo modprobe kvm_intel"},
		{"no module on AMD", "", absent, "vendor_id : AuthenticAMD", "", "sudo modprobe kvm_amd"},
		{"no module elsewhere", "", absent, "", "", "sudo modprobe kvm"},
		{"another fault", "", errors.New("creates no VM"), "", "", ""},
	} {
		why, fix := mendKVM(c.doubt, c.err, c.cpuinfo)
		if why != c.why || !strings.HasPrefix(fix, c.fix) || c.fix == "" && fix != "" {
			t.Errorf("%s: got %q, %q; want %q, %q", c.name, why, fix, c.why, c.fix)
		}
	}
}
