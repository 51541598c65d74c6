package qemu

import (
	"io"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/provider"
)

// opener opens files that are in the map only.
func opener(files map[string]string) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		text, ok := files[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return io.NopCloser(strings.NewReader(text)), nil
	}
}

func TestBridgeAllowed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		files map[string]string
		want  bool
		err   string
	}{
		{"by name", map[string]string{"conf": "# ours\n\nallow br1\n  allow\tbr0\n"}, true, ""},
		{"all", map[string]string{"conf": "allow all"}, true, ""},
		{"another", map[string]string{"conf": "allow br1"}, false, ""},
		{"denied wherever that stands", map[string]string{"conf": "deny br0\nallow all"}, false, ""},
		{"included", map[string]string{"conf": "include more", "more": "allow br0"}, true, ""},
		{"a file that there is not", map[string]string{"conf": "allow br0\ninclude more"}, true, ""},
		{"empty", map[string]string{"conf": ""}, false, ""},
		{"none", nil, false, "open conf: file does not exist"},
		{"a circle", map[string]string{"conf": "include conf"}, false, "conf includes too many files"},
		{"no rule", map[string]string{"conf": "permit br0"}, false, `conf: "permit br0" is not a rule`},
		{"half a rule", map[string]string{"conf": "allow"}, false, `conf: "allow" is not a rule`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := bridgeAllowed("br0", "conf", opener(c.files))
			if text := errText(err); text != c.err {
				t.Fatalf("got %q, want %q", text, c.err)
			}
			if err == nil && got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func FuzzBridgeAllowed(f *testing.F) {
	f.Add("allow br0\n")
	f.Add("include conf\n")
	f.Add("deny all\n# x\nallow all")
	f.Fuzz(func(t *testing.T, conf string) {
		ok, err := bridgeAllowed("br0", "conf", opener(map[string]string{"conf": conf}))
		if ok && err == nil && (!strings.Contains(conf, "allow") || strings.Contains(conf, "deny all")) {
			t.Errorf("%q allows it", conf)
		}
	})
}

func TestValidateNICs(t *testing.T) {
	t.Parallel()
	dev := provider.HostOnly{Name: "dev", CIDR: netip.MustParsePrefix("172.28.8.0/24")}
	good := provider.NIC{Network: "dev", MAC: "52:54:00:00:00:01", HostOnly: &dev, Address: netip.MustParseAddr("172.28.8.101")}
	bridged := provider.NIC{Network: "lan", MAC: "52:54:00:00:00:02", Interface: "br0"}
	if err := validateNICs([]provider.NIC{good, bridged}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		change     func(*provider.NIC)
	}{
		{"no address of a card", `network "dev": "52:54" is no Ethernet address`, func(n *provider.NIC) { n.MAC = "52:54" }},
		{"both kinds", `network "dev": neither host-only nor bridged, or both`, func(n *provider.NIC) { n.Interface = "br0" }},
		{"no kind", `network "dev": neither host-only nor bridged, or both`, func(n *provider.NIC) { n.HostOnly = nil }},
		{"another subnet", `network "dev": address: 10.0.0.1 is not a guest's on 172.28.8.0/24`,
			func(n *provider.NIC) { n.Address = netip.MustParseAddr("10.0.0.1") }},
		{"the host's address", `network "dev": address: 172.28.8.1 is not a guest's on 172.28.8.0/24`,
			func(n *provider.NIC) { n.Address = netip.MustParseAddr("172.28.8.1") }},
		{"IPv6", `network "dev": cidr: fd00::/64 is not an IPv4 network`, func(n *provider.NIC) {
			n.HostOnly = &provider.HostOnly{Name: "dev", CIDR: netip.MustParsePrefix("fd00::/64")}
		}},
		{"a path", `domain name "../dev" is not a file name`, func(n *provider.NIC) {
			n.HostOnly = &provider.HostOnly{Name: "../dev", CIDR: dev.CIDR}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := good
			c.change(&n)
			if err := validateNICs([]provider.NIC{n}); errText(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	if err := validateNICs([]provider.NIC{good, good}); errText(err) != `network "dev": named twice or not at all` {
		t.Errorf("twice: %v", err)
	}
	if err := validateNICs(make([]provider.NIC, 1)); err == nil {
		t.Error("accepted a card without a network")
	}
}
