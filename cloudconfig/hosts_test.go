package cloudconfig_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/cloudconfig"
)

// The command replaces hostctl's lines, and nobody else's, however often it
// runs.
func TestHostsCommand(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the command is for guests, which are Linux")
	}
	dir := t.TempDir()
	// The same on a file of the test.
	command := strings.ReplaceAll(strings.Replace(cloudconfig.HostsCommand, "sudo ", "", 1), "/etc/hosts", filepath.Join(dir, "hosts"))
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	block := func(names ...string) string {
		var hosts []cloudconfig.Host
		for i, name := range names {
			hosts = append(hosts, cloudconfig.Host{Name: name, Address: netip.AddrFrom4([4]byte{172, 28, 8, byte(101 + i)})})
		}
		return cloudconfig.HostsBlock(hosts)
	}
	for _, c := range []struct{ name, block, want string }{
		{"first", block("core-01", "core-02"), "127.0.0.1 localhost\n# BEGIN hostctl: machines of the project\n172.28.8.101 core-01\n172.28.8.102 core-02\n# END hostctl\n"},
		{"again", block("core-01"), "127.0.0.1 localhost\n# BEGIN hostctl: machines of the project\n172.28.8.101 core-01\n# END hostctl\n"},
		{"none", block(), "127.0.0.1 localhost\n"},
	} {
		cmd := exec.Command("sh", "-c", command)
		cmd.Stdin = strings.NewReader(c.block)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, out)
		}
		got, err := os.ReadFile(filepath.Join(dir, "hosts"))
		if err != nil || string(got) != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
		entries, err := os.ReadDir(dir)
		if info, _ := os.Stat(filepath.Join(dir, "hosts")); err != nil || len(entries) != 1 || info.Mode() != 0o644 {
			t.Errorf("%s: %v, %v, %v", c.name, entries, info.Mode(), err)
		}
	}
}
