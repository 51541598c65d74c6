package qemu

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The texts are what QEMU 7.2.22 printed.
func TestParseFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, log string
		want      failure
	}{
		{
			"taken port",
			"qemu-system-x86_64: -netdev user,id=net,hostfwd=tcp:127.0.0.1:22000-:22,hostfwd=tcp:127.0.0.1:2375-:2375: Could not set up host forwarding rule 'tcp:127.0.0.1:2375-:2375'\n",
			failure{text: "Could not set up host forwarding rule 'tcp:127.0.0.1:2375-:2375'", rule: "tcp:127.0.0.1:2375-:2375"},
		},
		{
			"no memory",
			"qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory\n",
			failure{text: "cannot set up guest memory 'pc.ram': Cannot allocate memory", memory: true},
		},
		{
			"locked disk",
			"qemu-system-x86_64: -drive file=d.qcow2,if=virtio: Failed to get \"write\" lock\nIs another process using the image [d.qcow2]?\n",
			failure{text: "Failed to get \"write\" lock; Is another process using the image [d.qcow2]?", locked: true},
		},
		{
			"locked pid file",
			"qemu-system-x86_64: cannot create PID file: Cannot lock pid file: Resource temporarily unavailable\n",
			failure{text: "cannot create PID file: Cannot lock pid file: Resource temporarily unavailable", locked: true},
		},
		{
			"Red Hat's name",
			"qemu-kvm: -accel hvf: invalid accelerator hvf\n",
			failure{text: "invalid accelerator hvf", accel: true},
		},
		{
			"no accelerator",
			"qemu-system-x86_64: -accel whpx: invalid accelerator whpx\n",
			failure{text: "invalid accelerator whpx", accel: true},
		},
		{
			"forbidden KVM",
			"Could not access KVM kernel module: Permission denied\nqemu-system-x86_64: -accel kvm: failed to initialize kvm: Permission denied\n",
			failure{text: "Could not access KVM kernel module: Permission denied; failed to initialize kvm: Permission denied", accel: true},
		},
		{
			"a warning is not the end",
			"qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]\n",
			failure{},
		},
		{
			"denied bridge",
			"access denied by acl file\nqemu-system-x86_64: -netdev bridge,id=nic0,br=br0,helper=/usr/lib/qemu/qemu-bridge-helper: bridge helper failed\n",
			failure{text: "access denied by acl file; bridge helper failed", helper: true},
		},
		{"nothing", "", failure{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, parseFailure(c.log), cmp.AllowUnexported(failure{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func FuzzParseFailure(f *testing.F) {
	f.Add("qemu-system-x86_64: -netdev user: Could not set up host forwarding rule 'tcp::1-:2'\n")
	f.Add("\n: warning: \n")
	f.Fuzz(func(t *testing.T, log string) { parseFailure(log) })
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for out, want := range map[string]string{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003-2022\n": "7.2.22",
		"QEMU emulator version 9.1.0\n": "9.1.0",
		"something else\n":              "something else",
	} {
		if got := parseVersion(out); got != want {
			t.Errorf("%q: got %q, want %q", out, got, want)
		}
	}
}
