package libvirt_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/internal/lab"
)

// Where QEMU has a user of its own, as on every host that was not made for tests, the
// user's files are not given away to it, and the guest's configuration is its alone.
func TestQEMUHasItsOwnUser(t *testing.T) {
	daemon := lab.Libvirtd(t)
	const file = "/etc/libvirt/qemu.conf"
	conf, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, conf, 0o600); err != nil {
			t.Error(err)
		}
		daemon.Restart(t)
	})
	other := strings.ReplaceAll(strings.ReplaceAll(string(conf), `user = "root"`, `user = "nobody"`), `group = "root"`, `group = "nogroup"`)
	if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon.Restart(t)

	for _, c := range []struct {
		name string
		mode os.FileMode // of the image's directory
		copy bool        // it is uploaded
	}{
		{"a hidden image", 0o700, true},
		{"an image that everybody may read", 0o755, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, "qemu:///system")
			dir, err := os.MkdirTemp("/run", "images")
			s.ok(err)
			s.d = newDomain(t, "core", dir)
			s.ok(os.Chmod(dir, c.mode))
			before, err := os.Stat(s.d.Disk.Base)
			s.ok(err)
			s.up()
			copies, err := filepath.Glob("/var/lib/libvirt/hostctl/hostctl-base-*")
			s.ok(err)
			if (len(copies) == 1) != c.copy {
				t.Errorf("copies are %q", copies)
			}
			after, err := os.Stat(s.d.Disk.Base)
			s.ok(err)
			if owner(before) != owner(after) {
				t.Errorf("the image was %d's and is %d's", owner(before), owner(after))
			}
			secrets, err := filepath.Glob("/var/lib/libvirt/hostctl/*.ign")
			s.ok(err)
			if len(secrets) != 1 {
				t.Fatalf("configurations are %q", secrets)
			}
			info, err := os.Stat(secrets[0])
			s.ok(err)
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("the configuration has mode %o", info.Mode().Perm())
			}
		})
	}
}

func owner(info os.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }
