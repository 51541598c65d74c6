package network_test

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/hostctl/hostctl/network"
)

// inNamespace runs the calling test once more, in a process with a network
// namespace of its own. It reports whether this is that process; where it is
// not, the test is done.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const marker = "HOSTCTL_TEST_NAMESPACE"
	if os.Getenv(marker) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// link makes an interface that is up, with addresses.
func link(t *testing.T, l netlink.Link, cidrs ...string) {
	t.Helper()
	if err := netlink.LinkAdd(l); err != nil {
		t.Fatalf("%s: %v", l.Attrs().Name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
	for _, c := range cidrs {
		a, err := netlink.ParseAddr(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			t.Fatal(err)
		}
	}
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func addRoute(t *testing.T, r netlink.Route, dst, through string) {
	t.Helper()
	l, err := netlink.LinkByName(through)
	if err != nil {
		t.Fatal(err)
	}
	r.LinkIndex = l.Attrs().Index
	if _, r.Dst, err = net.ParseCIDR(dst); err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&r); err != nil {
		t.Fatalf("route %s: %v", dst, err)
	}
}

func TestUsedSubnets(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	link(t, &netlink.Veth{LinkAttrs: named("eth0"), PeerName: "lan0"}, "192.168.1.5/24", "fd00::5/64")
	link(t, &netlink.Bridge{LinkAttrs: named("docker0")}, "172.17.0.1/16")
	link(t, &netlink.Tuntap{LinkAttrs: named("tun0"), Mode: netlink.TUNTAP_MODE_TUN}, "10.8.0.6/32")
	gateway := netlink.Route{Gw: net.IPv4(192, 168, 1, 1)}
	addRoute(t, gateway, "0.0.0.0/0", "eth0")
	for _, dst := range []string{"0.0.0.0/1", "128.0.0.0/1", "10.20.0.0/16"} {
		addRoute(t, netlink.Route{}, dst, "tun0")
	}
	// What the interface's own route covers is not said again.
	addRoute(t, gateway, "192.168.1.128/25", "eth0")
	// WireGuard keeps its routes in another table.
	addRoute(t, netlink.Route{Table: 51820}, "0.0.0.0/0", "tun0")
	addRoute(t, netlink.Route{Table: 51820}, "10.30.0.0/16", "tun0")

	got, err := network.UsedSubnets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []network.UsedSubnet{
		{Prefix: netip.MustParsePrefix("192.168.1.0/24"), By: "interface eth0", Interface: "eth0"},
		{Prefix: netip.MustParsePrefix("172.17.0.0/16"), By: "interface docker0", Interface: "docker0"},
		{Prefix: netip.MustParsePrefix("10.8.0.6/32"), By: "interface tun0", Interface: "tun0"},
		{Prefix: netip.MustParsePrefix("10.20.0.0/16"), By: "route through tun0", Interface: "tun0"},
		{Prefix: netip.MustParsePrefix("10.30.0.0/16"), By: "route through tun0", Interface: "tun0"},
	}
	compare := func(a, b network.UsedSubnet) int {
		return slices.Compare(append([]byte(a.By), a.Prefix.String()...), append([]byte(b.By), b.Prefix.String()...))
	}
	slices.SortFunc(got, compare)
	slices.SortFunc(want, compare)
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// Whatever this host has, it is listed, and the list is of use.
func TestUsedSubnetsOfThisHost(t *testing.T) {
	t.Parallel()
	got, err := network.UsedSubnets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := network.Overlapping(netip.MustParsePrefix("127.0.0.0/24"), got); !ok || u.String() != "interface lo (127.0.0.0/8)" {
		t.Errorf("127.0.0.0/24 overlaps %v among %v", u, got)
	}
}

func TestHostInterfaces(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	link(t, &netlink.Veth{LinkAttrs: named("eth0"), PeerName: "lan0"}, "192.168.1.5/24")
	link(t, &netlink.Bridge{LinkAttrs: named("docker0")}, "172.17.0.1/16")
	link(t, &netlink.Bridge{LinkAttrs: named("br-0123456789ab")}, "172.18.0.1/16")
	link(t, &netlink.Bridge{LinkAttrs: named("hc-01234567")}, "172.28.8.1/24")
	link(t, &netlink.Bridge{LinkAttrs: named("br0")}, "192.168.2.5/24")
	bridge, err := netlink.LinkByName("br0")
	if err != nil {
		t.Fatal(err)
	}
	port := &netlink.Veth{LinkAttrs: named("port0"), PeerName: "container0"}
	link(t, port, "10.2.0.1/16")
	if err := netlink.LinkSetMaster(port, bridge); err != nil {
		t.Fatal(err)
	}
	link(t, &netlink.Tuntap{LinkAttrs: named("tap0"), Mode: netlink.TUNTAP_MODE_TAP}, "10.3.0.1/16")

	eth0, br0 := network.Interface{Name: "eth0"}, network.Interface{Name: "br0", Bridge: true}
	check := func(want ...network.Interface) {
		t.Helper()
		got, err := network.HostInterfaces(t.Context())
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	check(eth0, br0)
	addRoute(t, netlink.Route{Gw: net.IPv4(192, 168, 2, 1), Priority: 100}, "0.0.0.0/0", "br0")
	check(br0, eth0)
	addRoute(t, netlink.Route{Gw: net.IPv4(192, 168, 1, 1), Priority: 50}, "0.0.0.0/0", "eth0")
	check(eth0, br0)
}
