package network_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/network"
)

func addrs(s ...string) []netip.Addr {
	out := make([]netip.Addr, len(s))
	for i, a := range s {
		if a != "" {
			out[i] = netip.MustParseAddr(a)
		}
	}
	return out
}

func TestAssignAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, prefix          string
		taken, previous, want []netip.Addr
	}{
		{"none", "172.28.8.0/24", nil, nil, addrs()},
		{"new ones", "172.28.8.0/24", nil, addrs("", ""), addrs("172.28.8.2", "172.28.8.3")},
		{"of a subnet that is not masked", "172.28.8.77/24", nil, addrs(""), addrs("172.28.8.2")},
		{"round what is taken", "172.28.8.0/24", addrs("172.28.8.2", "172.28.8.4"), addrs("", ""), addrs("172.28.8.3", "172.28.8.5")},
		{"kept", "172.28.8.0/24", addrs("172.28.8.2"), addrs("", "172.28.8.3", "172.28.8.200", ""),
			addrs("172.28.8.4", "172.28.8.3", "172.28.8.200", "172.28.8.5")},
		{"taken since", "172.28.8.0/24", addrs("172.28.8.9"), addrs("172.28.8.9"), addrs("172.28.8.2")},
		{"had twice", "172.28.8.0/24", nil, addrs("172.28.8.9", "172.28.8.9"), addrs("172.28.8.9", "172.28.8.2")},
		{"of another subnet", "172.29.8.0/24", addrs("172.28.8.2"), addrs("172.28.8.9"), addrs("172.29.8.2")},
		{"none for guests", "172.28.8.0/24", nil, addrs("172.28.8.0", "172.28.8.1", "172.28.8.255"), addrs("172.28.8.2", "172.28.8.3", "172.28.8.4")},
		{"the whole of a small one", "172.28.8.0/29", nil, addrs("", "", "", "", ""),
			addrs("172.28.8.2", "172.28.8.3", "172.28.8.4", "172.28.8.5", "172.28.8.6")},
		{"past an octet", "172.28.8.0/22", nil, append(addrs("172.28.8.2"), make([]netip.Addr, 254)...), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := network.AssignAddresses(netip.MustParsePrefix(c.prefix), c.taken, c.previous)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == nil { // too many to list: the last says enough
				got, c.want = got[len(got)-1:], addrs("172.28.9.0")
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestAssignAddressesFull(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		prefix   string
		machines int
		want     string
	}{
		{"172.28.8.0/24", 254, "172.28.8.0/24 has addresses for 253 machines, no more"},
		{"172.28.8.0/30", 2, "172.28.8.0/30 has addresses for 1 machines, no more"},
		{"172.28.8.0/31", 1, "172.28.8.0/31 has addresses for 0 machines, no more"},
		{"172.28.8.8/32", 1, "172.28.8.8/32 has addresses for 0 machines, no more"},
		{"255.255.255.0/24", 300, "255.255.255.0/24 has addresses for 253 machines, no more"},
	} {
		_, err := network.AssignAddresses(netip.MustParsePrefix(c.prefix), nil, make([]netip.Addr, c.machines))
		if _, ok := errors.AsType[*network.FullError](err); !ok || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestHostAddress(t *testing.T) {
	t.Parallel()
	if got := network.HostAddress(netip.MustParsePrefix("172.28.8.64/26")).String(); got != "172.28.8.65" {
		t.Errorf("got %s", got)
	}
}

func BenchmarkAssignAddresses(b *testing.B) {
	p := netip.MustParsePrefix("10.200.0.0/16")
	previous := make([]netip.Addr, 1000)
	for b.Loop() {
		if _, err := network.AssignAddresses(p, nil, previous); err != nil {
			b.Fatal(err)
		}
	}
}
