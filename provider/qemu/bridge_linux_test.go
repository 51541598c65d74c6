package qemu_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// Bridges and taps are made in the lab.
func TestMain(m *testing.M) { os.Exit(lab.Run(m, wanted())) }

func newPrivilegedPlace(t testing.TB) place {
	t.Helper()
	at := newPlace(t)
	at.privileged = true
	return at
}

func needLab(t *testing.T) {
	t.Helper()
	needQEMU(t)
	lab.Need(t)
}

func TestConformanceWithBridges(t *testing.T) {
	t.Parallel()
	needLab(t)
	conform(t, newPrivilegedPlace)
}

// interfaces lists the lab's interfaces of hostctl's that a test has made.
func interfaces(t *testing.T, before ...string) []string {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	var names []string
	for _, l := range links {
		name := l.Attrs().Name
		if len(name) == 11 && name[0] == 'h' && name[2] == '-' && !slices.Contains(before, name) {
			names = append(names, name)
		}
	}
	return names
}

// bridgeOf finds the only bridge of the test's project.
func bridgeOf(t *testing.T, at place) netlink.Link {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		if l.Attrs().Alias == "hostctl "+at.projectID()+" dev" {
			return l
		}
	}
	t.Fatal("the bridge is not there")
	return nil
}

// portsOf names the bridge's ports.
func portsOf(t *testing.T, bridge netlink.Link) []string {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	var names []string
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

func TestBridgeOfAHostOnlyNetwork(t *testing.T) {
	needLab(t)
	at := newPrivilegedPlace(t)
	p := at.provider(200 * time.Millisecond)
	t.Cleanup(func() { must(t, p.DeleteNetwork(context.WithoutCancel(t.Context()), "dev")) })
	remove(t, at, "core")
	st, err := p.EnsureNetwork(t.Context(), dev)
	must(t, err)
	if !st.HostReach || st.Notice != "" {
		t.Errorf("got %+v", st)
	}
	d := onDev(newDomain(t, "core"))
	must(t, p.Create(t.Context(), d))
	must(t, p.Start(t.Context(), "core"))
	if ports, err := p.SwitchPorts(t.Context(), "core"); err != nil || len(ports) != 0 {
		t.Errorf("switch ports: %v, %v", ports, err)
	}
	b := bridgeOf(t, at)
	addrs, err := netlink.AddrList(b, netlink.FAMILY_V4)
	must(t, err)
	if len(addrs) != 1 || addrs[0].IPNet.String() != "172.28.8.1/24" {
		t.Errorf("the bridge has the addresses %v", addrs)
	}
	if v6, err := netlink.AddrList(b, netlink.FAMILY_V6); err != nil || len(v6) != 0 {
		t.Errorf("the bridge speaks IPv6: %v, %v", v6, err)
	}
	ports := portsOf(t, b)
	if len(ports) != 1 || !strings.HasPrefix(ports[0], "ht-") {
		t.Fatalf("the bridge has the ports %v", ports)
	}
	tap, err := netlink.LinkByName(ports[0])
	must(t, err)
	if tap.Attrs().OperState == netlink.OperDown {
		t.Error("the tap is down")
	}
}

func TestBridgeIsRepaired(t *testing.T) {
	needLab(t)
	at := newPrivilegedPlace(t)
	p := at.provider(200 * time.Millisecond)
	t.Cleanup(func() { must(t, p.DeleteNetwork(context.WithoutCancel(t.Context()), "dev")) })
	remove(t, at, "core")
	must(t, p.Create(t.Context(), onDev(newDomain(t, "core"))))
	must(t, p.Start(t.Context(), "core")) // without EnsureNetwork
	for what, harm := range map[string]func(b netlink.Link) error{
		"down":            netlink.LinkSetDown,
		"deleted":         netlink.LinkDel,
		"without a guest": func(b netlink.Link) error { return unplugPorts(b) },
		"another address": func(b netlink.Link) error {
			a, err := netlink.ParseAddr("10.9.8.7/24")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(b, a)
		},
	} {
		must(t, harm(bridgeOf(t, at)))
		_, err := p.EnsureNetwork(t.Context(), dev)
		must(t, err)
		b := bridgeOf(t, at)
		addrs, err := netlink.AddrList(b, netlink.FAMILY_V4)
		must(t, err)
		if len(addrs) != 1 || addrs[0].IPNet.String() != "172.28.8.1/24" || b.Attrs().RawFlags&1 == 0 || len(portsOf(t, b)) != 1 {
			t.Errorf("%s: addresses %v, flags %v, ports %v", what, addrs, b.Attrs().Flags, portsOf(t, b))
		}
	}
	if have, err := p.Networks(t.Context()); err != nil || len(have) != 1 || !have["dev"] {
		t.Errorf("networks: %v, %v", have, err)
	}
	other := newPrivilegedPlace(t).provider(0)
	if have, err := other.Networks(t.Context()); err != nil || len(have) != 0 {
		t.Errorf("another project's networks: %v, %v", have, err)
	}
	must(t, other.DeleteNetwork(t.Context(), "dev"))
	bridgeOf(t, at)
}

func unplugPorts(b netlink.Link) error {
	links, err := netlink.LinkList()
	for _, l := range links {
		if l.Attrs().MasterIndex == b.Attrs().Index {
			err = errors.Join(err, netlink.LinkSetNoMaster(l))
		}
	}
	return err
}

// A QEMU that was killed takes its tap with it, and the next start has one.
func TestTapEndsWithQEMU(t *testing.T) {
	needLab(t)
	at := newPrivilegedPlace(t)
	p := at.provider(200 * time.Millisecond)
	t.Cleanup(func() { must(t, p.DeleteNetwork(context.WithoutCancel(t.Context()), "dev")) })
	remove(t, at, "core")
	must(t, p.Create(t.Context(), onDev(newDomain(t, "core"))))
	for range 3 {
		must(t, p.Start(t.Context(), "core"))
		if ports := portsOf(t, bridgeOf(t, at)); len(ports) != 1 {
			t.Fatalf("ports: %v", ports)
		}
		kill(t, at, "core")
	}
	eventually(t, func() error {
		if ports := portsOf(t, bridgeOf(t, at)); len(ports) != 0 {
			return fmt.Errorf("ports of nobody: %v", ports)
		}
		return nil
	})
}

// An interface of the bridge's name that is not the project's is left alone.
func TestForeignBridge(t *testing.T) {
	needLab(t)
	at := newPrivilegedPlace(t)
	p := at.provider(0)
	_, err := p.EnsureNetwork(t.Context(), dev)
	must(t, err)
	b := bridgeOf(t, at)
	t.Cleanup(func() { must(t, netlink.LinkDel(b)) })
	must(t, netlink.LinkSetAlias(b, "mine"))
	_, err = p.EnsureNetwork(t.Context(), dev)
	if want := "bridge " + b.Attrs().Name + ": there is another interface of that name"; err == nil || err.Error() != want ||
		hint.Of(err) != "run 'sudo ip link delete "+b.Attrs().Name+"' if nobody needs it" {
		t.Errorf("got %v (%s), want %s", err, hint.Of(err), want)
	}
	must(t, p.DeleteNetwork(t.Context(), "dev"))
	if _, err := netlink.LinkByName(b.Attrs().Name); err != nil {
		t.Error(err)
	}
}

func bridgedOn(d provider.Domain, iface string) provider.Domain {
	d.NICs = []provider.NIC{{Network: "lan", MAC: network.MAC(d.ID, "lan").String(), Interface: iface}}
	return d
}

func TestBridged(t *testing.T) {
	needLab(t)
	br := lab.NewLAN(t, lab.LANConfig{Name: "qm-br", Prefix: netip.MustParsePrefix("10.77.1.0/24"), Bridge: true})
	wire := lab.NewLAN(t, lab.LANConfig{Name: "qm-wire", Prefix: netip.MustParsePrefix("10.77.2.0/24")})
	must(t, netlinkAddress(wire.Interface, "10.77.2.200/24")) // a card of the host's has an address
	for _, c := range []struct{ name, iface, kind string }{
		{"bridge", br.Interface, "tuntap"},
		{"another interface", wire.Interface, "macvtap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := interfaces(t)
			at := newPrivilegedPlace(t)
			remove(t, at, "core")
			p := at.provider(200 * time.Millisecond)
			d := bridgedOn(newDomain(t, "core"), c.iface)
			must(t, p.Create(t.Context(), d))
			for range 2 {
				must(t, p.Start(t.Context(), "core"))
				cards := interfaces(t, before...)
				if len(cards) != 1 {
					t.Fatalf("cards: %v", cards)
				}
				l, err := netlink.LinkByName(cards[0])
				must(t, err)
				if l.Type() != c.kind || c.kind == "macvtap" && l.Attrs().HardwareAddr.String() != d.NICs[0].MAC {
					t.Errorf("card %v: %s with %s", cards, l.Type(), l.Attrs().HardwareAddr)
				}
				kill(t, at, "core")
			}
			must(t, p.Start(t.Context(), "core"))
			stopped(t, p.Stop(t.Context(), "core"))
			eventually(t, func() error {
				if cards := interfaces(t, before...); len(cards) != 0 {
					return fmt.Errorf("cards of nobody: %v", cards)
				}
				return nil
			})
		})
	}
}

func netlinkAddress(iface, addr string) error {
	l, err := netlink.LinkByName(iface)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(l, a)
}

func TestBridgedInterfaceIsGone(t *testing.T) {
	needLab(t)
	br := lab.NewLAN(t, lab.LANConfig{Name: "qm-gone", Prefix: netip.MustParsePrefix("10.77.3.0/24"), Bridge: true})
	at := newPrivilegedPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	must(t, p.Create(t.Context(), bridgedOn(newDomain(t, "core"), br.Interface)))
	l, err := netlink.LinkByName(br.Interface)
	must(t, err)
	must(t, netlink.LinkSetName(l, "qm-other"))
	defer func() { must(t, netlink.LinkSetName(l, br.Interface)) }() // the LAN removes it by its name
	err = p.Start(t.Context(), "core")
	fe, ok := errors.AsType[*provider.FieldError](err)
	if !ok || fe.Field != "interface" || fe.Network != "lan" || err.Error() != `network "lan": interface: this host has no interface "qm-gone"` {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(hint.Of(err), `"qm-other"`) {
		t.Errorf("the hint does not name the candidates: %q", hint.Of(err))
	}
}

// Without root, guests are put on bridges by qemu-bridge-helper, where the
// system's administrator allows it.
func TestBridgedByHelper(t *testing.T) {
	needLab(t)
	br := lab.NewLAN(t, lab.LANConfig{Name: "qm-help", Prefix: netip.MustParsePrefix("10.77.4.0/24"), Bridge: true})
	wire := lab.NewLAN(t, lab.LANConfig{Name: "qm-far", Prefix: netip.MustParsePrefix("10.77.5.0/24")})
	must(t, netlinkAddress(wire.Interface, "10.77.5.200/24"))
	overlay(t, "/etc") // of the lab's own mounts: there may be no /etc/qemu
	must(t, os.MkdirAll("/etc/qemu", 0o755))
	allow := func(rules string) { must(t, os.WriteFile("/etc/qemu/bridge.conf", []byte(rules), 0o644)) }

	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(200 * time.Millisecond)
	refused := func(d provider.Domain, text, advice string) {
		t.Helper()
		err := p.Create(t.Context(), d)
		fe, ok := errors.AsType[*provider.FieldError](err)
		if !ok || fe.Field != "interface" || fe.Network != "lan" || fe.Err.Error() != text || fe.Advice != advice {
			t.Errorf("got %v (%s), want %s (%s)", err, hint.Of(err), text, advice)
		}
	}
	allow("allow br7\n")
	d := newDomain(t, "core")
	refused(bridgedOn(d, br.Interface), "qemu-bridge-helper may not use it", "add the line 'allow qm-help' to /etc/qemu/bridge.conf")
	refused(bridgedOn(d, wire.Interface), "qm-far is not a bridge, and only root can put guests on another interface",
		"make a bridge that qm-far is a port of, name it here and allow it in /etc/qemu/bridge.conf; or use libvirt")
	allow("allow qm-help\n")
	must(t, p.Create(t.Context(), bridgedOn(d, br.Interface)))
	must(t, p.Start(t.Context(), "core"))
	l, err := netlink.LinkByName(br.Interface)
	must(t, err)
	if ports := portsOf(t, l); len(ports) != 2 { // the LAN's and the guest's
		t.Errorf("ports of the bridge: %v", ports)
	}
	stopped(t, p.Stop(t.Context(), "core"))
	// The file changed after Create: QEMU tells.
	allow("deny all\n")
	err = p.Start(t.Context(), "core")
	if fe, ok := errors.AsType[*provider.FieldError](err); !ok || fe.Field != "interface" {
		t.Errorf("denied: %v", err)
	}
}

// overlay lets the test change what is in a directory, until its end.
func overlay(t *testing.T, dir string) {
	t.Helper()
	upper, work := t.TempDir(), t.TempDir()
	must(t, unix.Mount("overlay", dir, "overlay", 0, "lowerdir="+dir+",upperdir="+upper+",workdir="+work))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}
