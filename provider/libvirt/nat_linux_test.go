package libvirt_test

import (
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
