package qemu

import (
	"errors"
	"io/fs"
	"runtime"
	"testing"

	"github.com/hostctl/hostctl/provider"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	ready := acceleration{arch: "amd64", name: "kvm"}
	absent := acceleration{arch: "amd64", name: "kvm", err: errors.New("open /dev/kvm: no such file or directory")}
	hollow := acceleration{arch: "amd64", name: "kvm", doubt: "/dev/kvm has no vmx or svm beneath it"}
	for _, c := range []struct {
		name                string
		want, guest         string
		hw                  acceleration
		accel, notice, fail string
	}{
		{"KVM", "", "amd64", ready, "kvm", "", ""},
		{"no KVM", "", "amd64", absent, "tcg",
			"no KVM: open /dev/kvm: no such file or directory; guests run under emulation, about ten times slower", ""},
		{"KVM without hardware", "", "amd64", hollow, "tcg",
			"no KVM: /dev/kvm has no vmx or svm beneath it; guests run under emulation, about ten times slower", ""},
		{"no HVF", "", "amd64", acceleration{arch: "amd64", name: "hvf", err: errors.New("kern.hv_support is 0")}, "tcg",
			"no HVF: kern.hv_support is 0; guests run under emulation, about ten times slower", ""},
		{"foreign guest", "", "arm64", ready, "tcg",
			"an arm64 guest on an amd64 host runs under emulation, about ten times slower", ""},
		{"KVM without hardware on request", "kvm", "amd64", hollow, "kvm", "", ""},
		{"emulation on request", "tcg", "amd64", ready, "tcg", "", ""},
		{"absent KVM on request", "kvm", "amd64", absent, "", "",
			"accel: kvm: open /dev/kvm: no such file or directory"},
		{"KVM for a foreign guest", "kvm", "arm64", ready, "", "",
			"accel: kvm cannot run an arm64 guest on an amd64 host"},
		{"another system's", "hvf", "amd64", ready, "", "",
			`accel: "hvf" is not one of this host's: kvm, tcg`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			accel, notice, err := choose(c.want, c.guest, c.hw)
			if accel != c.accel || notice != c.notice {
				t.Errorf("got %q, notice %q; want %q, notice %q", accel, notice, c.accel, c.notice)
			}
			if c.fail == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if field, ok := errors.AsType[*provider.FieldError](err); !ok || field.Field != "accel" || err.Error() != c.fail {
				t.Errorf("got %v, want %s", err, c.fail)
			}
		})
	}
}

func TestForbiddenKVMSaysHowToGetIt(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // the advice is Linux's
	}
	forbidden := acceleration{arch: "amd64", name: "kvm", err: &fs.PathError{Op: "open", Path: "/dev/kvm", Err: fs.ErrPermission}}
	_, notice, err := choose("", "amd64", forbidden)
	const want = "no KVM: open /dev/kvm: permission denied (run 'sudo usermod -aG kvm $USER' and log in again); " +
		"guests run under emulation, about ten times slower"
	if err != nil || notice != want {
		t.Errorf("got %q, %v; want %q", notice, err, want)
	}
	_, _, err = choose("kvm", "amd64", forbidden)
	field, ok := errors.AsType[*provider.FieldError](err)
	if !ok || field.Hint() != "run 'sudo usermod -aG kvm $USER' and log in again" {
		t.Errorf("got %v", err)
	}
}
