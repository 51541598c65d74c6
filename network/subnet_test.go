package network_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/hostctl/hostctl/network"
)

func used(by, prefix string) network.UsedSubnet {
	return network.UsedSubnet{By: by, Prefix: netip.MustParsePrefix(prefix)}
}

func TestOverlapping(t *testing.T) {
	t.Parallel()
	host := []network.UsedSubnet{
		used("interface eth0", "192.168.1.0/24"),
		used("interface docker0", "172.17.0.0/16"),
		used("interface br-0123456789ab", "172.28.0.0/16"),
		used("route through tun0", "10.0.0.0/8"),
		used("route through tun0", "10.20.0.0/16"),
		used("route through wg0", "172.28.0.0/16"),
	}
	for _, c := range []struct{ name, prefix, want string }{
		{"nothing", "172.29.8.0/24", ""},
		{"Vagrant's well-known subnet", "172.17.8.0/24", "interface docker0 (172.17.0.0/16)"},
		{"the same", "192.168.1.0/24", "interface eth0 (192.168.1.0/24)"},
		{"around a smaller one", "192.168.0.0/16", "interface eth0 (192.168.1.0/24)"},
		{"next to one", "192.168.2.0/24", ""},
		{"of two the smaller", "10.20.30.0/24", "route through tun0 (10.20.0.0/16)"},
		{"of two equal ones the first", "172.28.8.0/24", "interface br-0123456789ab (172.28.0.0/16)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u, ok := network.Overlapping(netip.MustParsePrefix(c.prefix), host)
			got := ""
			if ok {
				got = u.String()
			}
			if got != c.want {
				t.Errorf("%s overlaps %q, want %q", c.prefix, got, c.want)
			}
		})
	}
}

func TestFreeSubnet(t *testing.T) {
	t.Parallel()
	prefixes := func(s ...string) []netip.Prefix {
		var out []netip.Prefix
		for _, p := range s {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	docker := used("interface br-0123456789ab", "172.28.0.0/14")
	virtualbox := used("interface vboxnet0", "192.168.56.0/21")
	for _, c := range []struct {
		name       string
		used       []network.UsedSubnet
		candidates []netip.Prefix
		want       string
	}{
		{"nothing used", nil, nil, "172.28.8.0/24"},
		{"the first used", []network.UsedSubnet{used("interface br0", "172.28.8.128/25")}, nil, "172.29.8.0/24"},
		{"Docker has them all", []network.UsedSubnet{docker}, nil, "192.168.56.0/24"},
		{"and VirtualBox", []network.UsedSubnet{docker, virtualbox}, nil, "10.200.8.0/24"},
		{"the last", []network.UsedSubnet{docker, virtualbox, used("route through tun0", "10.192.0.0/11"), used("route through tun0", "10.224.0.0/12"),
			used("route through tun0", "10.240.0.0/13"), used("route through tun0", "10.248.0.0/14"), used("route through tun0", "10.252.0.0/15"),
			used("route through tun0", "10.254.0.0/16")}, nil, "10.255.8.0/24"},
		{"a candidate", nil, prefixes("192.168.122.0/24"), "192.168.122.0/24"},
		{"a candidate that is used", []network.UsedSubnet{used("interface virbr0", "192.168.122.0/24")},
			prefixes("192.168.122.0/24", "192.168.124.0/22"), "192.168.124.0/24"},
		{"candidates that guests use", nil, prefixes("172.17.8.0/24", "10.0.2.0/24"), "172.28.8.0/24"},
		{"candidates of other sizes and kinds", nil, prefixes("192.168.122.0/25", "fd00::/64"), "172.28.8.0/24"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := network.FreeSubnet(c.used, c.candidates...)
			if err != nil || got.String() != c.want {
				t.Errorf("got %s, %v; want %s", got, err, c.want)
			}
		})
	}
	_, err := network.FreeSubnet([]network.UsedSubnet{docker, virtualbox, used("route through tun0", "10.0.0.0/8")})
	if !errors.Is(err, network.ErrNoFreeSubnet) {
		t.Errorf("all used: %v", err)
	}
}
