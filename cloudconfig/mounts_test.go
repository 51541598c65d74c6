package cloudconfig_test

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/golden"
)

var mountPaths = []string{
	"/home/core/share", "/srv/my-data", "/srv/.hidden/x", "/.top", "/srv/in a", "/srv/ä%b", "/srv/a_b:c.d", "/",
}

// systemd-escape is the one who knows.
func TestMountUnit(t *testing.T) {
	t.Parallel()
	want := []string{
		"home-core-share.mount", `srv-my\x2ddata.mount`, `srv-.hidden-x.mount`, `\x2etop.mount`, `srv-in\x20a.mount`,
		`srv-\xc3\xa4\x25b.mount`, "srv-a_b:c.d.mount", "-.mount",
	}
	for i, p := range mountPaths {
		if got := cloudconfig.MountUnit(p); got != want[i] {
			t.Errorf("%s: %s, want %s", p, got, want[i])
		}
	}
	escape, err := exec.LookPath("systemd-escape")
	if err != nil {
		if runtime.GOOS == "linux" {
			t.Logf("without the word of systemd-escape: %v", err)
		}
		return
	}
	out, err := exec.Command(escape, append([]string{"--path", "--suffix=mount", "--"}, mountPaths...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, name := range strings.Fields(string(out)) {
		if name != want[i] {
			t.Errorf("systemd-escape says %s for %s, not %s", name, mountPaths[i], want[i])
		}
	}
}

func TestGuestPath(t *testing.T) {
	t.Parallel()
	fedora := image.Guest{Family: "fedora-coreos", Home: "/var/home/core"}
	flatcar := image.Guest{Family: "flatcar", Home: "/home/core"}
	for _, c := range []struct {
		path  string
		guest image.Guest
		want  string
	}{
		{"/home/core/share", flatcar, "/home/core/share"},
		{"/home/core/share", fedora, "/var/home/core/share"},
		{"/srv/data", flatcar, "/srv/data"},
		{"/srv/data", fedora, "/var/srv/data"},
		{"/data", fedora, "/data"},
	} {
		if got := cloudconfig.GuestPath(c.path, c.guest); got != c.want {
			t.Errorf("%s of %s: %s, want %s", c.path, c.guest.Family, got, c.want)
		}
	}
}

func TestMountsScript(t *testing.T) {
	t.Parallel()
	mounts := []cloudconfig.Mount{
		{
			Share: "code", Where: "/home/core/share", Server: netip.MustParseAddr("10.0.2.2"), Port: 21049, Path: "/0123abcd/code-1",
			Embedded: true, Options: []string{"nolock", "vers=3"},
		},
		{
			Share: "data", Where: "/srv/my-data 100%", Server: netip.MustParseAddr("10.0.2.2"), Port: 21049, Path: "/4567/data-2",
			Embedded: true, ReadOnly: true, Options: []string{"soft", "noac", "rsize=65536", "noatime"},
		},
		{
			Share: "kernel", Where: "/srv/kernel", Server: netip.MustParseAddr("10.177.3.1"), Port: 2049, Path: "/home/me/code",
			Options: []string{"vers=4.2"},
		},
	}
	for name, mounts := range map[string][]cloudconfig.Mount{"mounts": mounts, "no_mounts": nil} {
		script := cloudconfig.MountsScript(mounts, "core")
		golden.Equal(t, filepath.Join(name+".golden"), script)
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil && runtime.GOOS != "windows" {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
