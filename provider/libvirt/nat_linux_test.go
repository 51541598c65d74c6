package libvirt_test

import (
	"context"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/hostctl/hostctl/provider/libvirt"
)

// A reservation that is there already, or gone already, is one thing; one that
// libvirt does not make, although it says so by the same code, another.
func TestReservations(t *testing.T) {
	t.Parallel()
	s := newSite(t, "qemu:///system")
	s.ok(s.p.Create(t.Context(), s.d))
	system := s.p.(*libvirt.System)
	had, err := system.NATAddress(t.Context(), "core", s.d.ID)
	s.ok(err)
	addr, mac := had.Next(), "52:54:00:aa:bb:77"
	for range 2 {
		s.ok(system.UpdateHost(t.Context(), true, "other", mac, addr))
	}
	for range 2 {
		s.ok(system.UpdateHost(t.Context(), false, "other", mac, addr))
	}
	l := direct(t, s.where.socket)
	n, err := l.NetworkLookupByName("hostctl-" + s.where.project)
	s.ok(err)
	s.ok(l.NetworkDestroy(n))
	if err := system.UpdateHost(t.Context(), true, "other", mac, addr); err == nil {
		t.Error("an address is reserved in a network that is down")
	}
	s.ok(l.NetworkCreate(n))
	// Another has the address.
	if err := system.UpdateHost(t.Context(), true, "other", mac, had); err == nil {
		t.Error("an address is reserved twice")
	}
}

// The NAT network of a project whose subnet somebody else has come to use is made
// with another, and the guest gets an address in that.
func TestNATSubnetTaken(t *testing.T) {
	s := newSite(t, "qemu:///system")
	s.up()
	system := s.p.(*libvirt.System)
	before, err := system.NATAddress(t.Context(), "core", s.d.ID)
	s.ok(err)
	s.ok(s.p.Stop(t.Context(), "core"))
	l := direct(t, s.where.socket)
	n, err := l.NetworkLookupByName("hostctl-" + s.where.project)
	s.ok(err)
	s.ok(l.NetworkDestroy(n))
	s.ok(l.NetworkUndefine(n))
	for _, argv := range [][]string{
		{"link", "add", "taker", "type", "bridge"},
		{"address", "add", netip.PrefixFrom(before, 24).String(), "dev", "taker"},
		{"link", "set", "taker", "up"},
	} {
		if out, err := exec.CommandContext(t.Context(), "ip", argv...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", argv, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "ip", "link", "delete", "taker").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	s.up()
	after, err := system.NATAddress(t.Context(), "core", s.d.ID)
	s.ok(err)
	if netip.PrefixFrom(before, 24).Contains(after) {
		t.Errorf("the guest had %s and has %s", before, after)
	}
	if at, err := system.HostAddress(t.Context(), "core"); err != nil || !netip.PrefixFrom(after, 24).Contains(at.Listen) {
		t.Errorf("the host has %v there, %v", at, err)
	}
}
