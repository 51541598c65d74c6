package libvirt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/provider"
)

// host is what libvirt says of a host: its own architecture, and which domain types
// it has for guests of amd64.
func host86(t *testing.T, types ...string) capabilities {
	t.Helper()
	c := capabilities{libvirtxml.Caps{Host: libvirtxml.CapsHost{CPU: &libvirtxml.CapsHostCPU{Arch: "x86_64"}}}}
	g := libvirtxml.CapsGuest{OSType: "hvm", Arch: libvirtxml.CapsGuestArch{Name: "x86_64"}}
	for _, name := range types {
		g.Arch.Domains = append(g.Arch.Domains, libvirtxml.CapsGuestDomain{Type: name})
	}
	arm := libvirtxml.CapsGuest{OSType: "hvm", Arch: libvirtxml.CapsGuestArch{Name: "aarch64", Domains: []libvirtxml.CapsGuestDomain{{Type: "qemu"}}}}
	c.Guests = []libvirtxml.CapsGuest{g, arm}
	return c
}

func TestAccelerator(t *testing.T) {
	t.Parallel()
	both, emulation := host86(t, "qemu", "kvm"), host86(t, "qemu")
	sound := func() (string, error) { return "", nil }
	forbidden := func() (string, error) { return "", fs.ErrPermission }
	hollow := func() (string, error) { return "/dev/kvm has no vmx or svm beneath it", nil }
	for _, c := range []struct {
		name          string
		caps          capabilities
		want, arch    string
		local         bool
		probe         func() (string, error)
		accel, notice string
		fail          string
	}{
		{"KVM", both, "", "amd64", true, sound, "kvm", "", ""},
		{"KVM that this user may not open", both, "", "amd64", true, forbidden, "kvm", "", ""},
		{"KVM without hardware", both, "", "amd64", true, hollow, "tcg",
			"no KVM: /dev/kvm has no vmx or svm beneath it; guests run under emulation, about ten times slower", ""},
		{"KVM of another host", both, "", "amd64", false, hollow, "kvm", "", ""},
		{"no KVM", emulation, "", "amd64", false, sound, "tcg",
			"no KVM: libvirt's host does not offer it; guests run under emulation, about ten times slower", ""},
		{"a foreign guest", both, "", "arm64", true, sound, "tcg",
			"an arm64 guest on an x86_64 host runs under emulation, about ten times slower", ""},
		{"emulation on request", both, "tcg", "amd64", true, sound, "tcg", "", ""},
		{"KVM without hardware on request", both, "kvm", "amd64", true, hollow, "kvm", "", ""},
		{"absent KVM on request", emulation, "kvm", "amd64", true, sound, "", "", "accel: libvirt's host has no KVM for amd64 guests"},
		{"another system's", both, "hvf", "amd64", true, sound, "", "", `accel: "hvf" is not one of libvirt's host's: kvm, tcg`},
	} {
		accel, notice, err := c.caps.accelerator(c.want, c.arch, c.local, c.probe)
		if accel != c.accel || notice != c.notice {
			t.Errorf("%s: got %q, notice %q; want %q, notice %q", c.name, accel, notice, c.accel, c.notice)
		}
		if c.fail == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if field, ok := errors.AsType[*provider.FieldError](err); !ok || field.Field != "accel" || err.Error() != c.fail {
			t.Errorf("%s: got %v, want %s", c.name, err, c.fail)
		}
	}
	none := capabilities{}
	if _, _, err := none.accelerator("", "arm64", true, sound); err == nil || !strings.Contains(hint.Of(err), "qemu-system-arm") {
		t.Errorf("no QEMU: %v", err)
	}
}

func TestQEMUUser(t *testing.T) {
	t.Parallel()
	dac := libvirtxml.CapsHostSecModel{Name: "dac", Labels: []libvirtxml.CapsHostSecModelLabel{{Type: "kvm", Value: "+64055:+106"}}}
	for _, c := range []struct {
		name   string
		models []libvirtxml.CapsHostSecModel
		ok     bool
	}{
		{"file permissions", []libvirtxml.CapsHostSecModel{{Name: "none"}, dac}, true},
		{"AppArmor", []libvirtxml.CapsHostSecModel{{Name: "apparmor"}, dac}, false},
		{"nothing known", nil, false},
	} {
		caps := capabilities{libvirtxml.Caps{Host: libvirtxml.CapsHost{SecModel: c.models}}}
		uid, gid, ok := caps.qemuUser()
		if ok != c.ok || ok && (uid != 64055 || gid != 106) {
			t.Errorf("%s: %d, %d, %t", c.name, uid, gid, ok)
		}
	}
}

func TestPermits(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return // libvirtd does not run there
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	self, group := uint32(os.Getuid()), uint32(os.Getgid())
	for _, c := range []struct {
		mode     fs.FileMode
		uid, gid uint32
		want     bool
	}{
		{0o400, self, 1, true},
		{0o044, self, 1, false}, // the owner's bits count for the owner
		{0o640, self + 1, group, true},
		{0o604, self + 1, group, false},
		{0o604, self + 1, group + 1, true},
		{0o640, self + 1, group + 1, false},
	} {
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := permits(info, c.uid, c.gid, 0o4); got != c.want {
			t.Errorf("%o for %d:%d: %t", c.mode, c.uid-self, c.gid-group, got)
		}
	}
}

func TestInspectBase(t *testing.T) {
	t.Parallel()
	// A header of version 3 (QEMU's docs/interop/qcow2.txt): magic, version, backing
	// file, cluster bits, size, encryption, and at 72 the incompatible features.
	qcow2 := func(change func([]byte)) string {
		h := make([]byte, 104)
		copy(h, "QFI\xfb")
		h[7] = 3
		h[23] = 16
		h[30] = 0x40 // 16384 bytes
		change(h)
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, h, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	as := func(file, format string) provider.Disk { return provider.Disk{Base: file, BaseFormat: format} }
	plain := qcow2(func([]byte) {})
	for format, want := range map[string]uint64{"qcow2": 16384, "raw": 104} {
		got, err := inspectBase(as(plain, format))
		if err != nil || got.size != want {
			t.Errorf("%s: %d, %v; want %d", format, got.size, err, want)
		}
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("QFI"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, d := range map[string]provider.Disk{
		"depends on a backing file":     as(qcow2(func(h []byte) { h[15] = 104 }), "qcow2"),
		"keeps its data in another f":   as(qcow2(func(h []byte) { h[79] = 4 }), "qcow2"),
		"is encrypted":                  as(qcow2(func(h []byte) { h[35] = 1 }), "qcow2"),
		"is marked corrupt":             as(qcow2(func(h []byte) { h[79] = 2 }), "qcow2"),
		"no qcow2 header":               as(qcow2(func(h []byte) { h[0] = 0 }), "qcow2"),
		"qcow2 header is cut off":       as(short, "qcow2"),
		"no such file":                  as(plain+".missing", "qcow2"),
		`format "vmdk" is not qcow2`:    as(plain, "vmdk"),
		"base.img is not an absolute p": as("base.img", "raw"),
	} {
		_, err := inspectBase(d)
		if field, ok := errors.AsType[*provider.FieldError](err); !ok || field.Field != "image" || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
