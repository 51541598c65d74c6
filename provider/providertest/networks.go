package providertest

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// liveForwards is for providers that claim [provider.Forwarder].
func liveForwards(t *testing.T, b *bench) {
	f, ok := provider.As[provider.Forwarder](b.p)
	if !ok {
		return
	}
	ctx := t.Context()
	first, second := forward("first", freePort(t)), forward("second", freePort(t))
	dns := network.Forward{Name: "dns", Protocol: "udp", HostIP: first.HostIP, HostPort: freeUDPPort(t), GuestPort: 53}
	if err := f.AddForward(ctx, "nobody", first); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("of a domain that there is not: %v, want %v", err, provider.ErrNotFound)
	}
	d := b.domain("core")
	d.Forwards = []network.Forward{first}
	b.ok(b.p.Create(ctx, d))
	if err := f.AddForward(ctx, "core", second); !errors.Is(err, provider.ErrNotRunning) {
		t.Errorf("of a stopped domain: %v, want %v", err, provider.ErrNotRunning)
	}
	if _, err := f.LiveForwards(ctx, "core"); !errors.Is(err, provider.ErrNotRunning) {
		t.Errorf("of a stopped domain: %v, want %v", err, provider.ErrNotRunning)
	}
	b.ok(b.p.Start(ctx, "core"))
	live := func(want ...network.Forward) {
		t.Helper()
		again, _ := provider.As[provider.Forwarder](b.h.Again(t, b.p))
		have, err := again.LiveForwards(ctx, "core")
		b.ok(err)
		for _, fw := range want {
			if !slices.ContainsFunc(have, func(o network.Forward) bool { return sameForward(o, fw) }) {
				t.Errorf("%s is not in force: %v", fw, have)
			}
		}
		if len(have) != len(want) {
			t.Errorf("in force are %v, want %v", have, want)
		}
	}
	live(first)
	for range 2 {
		b.ok(f.AddForward(ctx, "core", second))
	}
	b.ok(f.AddForward(ctx, "core", dns))
	live(first, second, dns)
	for range 2 {
		b.ok(f.RemoveForward(ctx, "core", first))
	}
	b.ok(f.RemoveForward(ctx, "core", dns))
	live(second)

	holder, err := net.Listen("tcp4", first.HostAddr().String())
	if err != nil {
		t.Fatalf("a forward that was removed holds its port: %v", err)
	}
	defer holder.Close()
	err = f.AddForward(ctx, "core", first)
	if taken, ok := errors.AsType[*provider.PortError](err); !ok || taken.Forward != first {
		t.Errorf("a taken port: %v, want a *PortError for %v", err, first)
	}
	live(second)
}

// natAddress is for providers that claim [provider.NATAddresser].
func natAddress(t *testing.T, b *bench) {
	n, ok := provider.As[provider.NATAddresser](b.p)
	if !ok {
		return
	}
	ctx := t.Context()
	one, two := b.domain("core-01"), b.domain("core-02")
	before, err := n.NATAddress(ctx, one.Name, one.ID)
	b.ok(err)
	if !before.Is4() || before.IsUnspecified() {
		t.Errorf("the address is %v", before)
	}
	b.ok(b.p.Create(ctx, one))
	b.ok(b.p.Create(ctx, two))
	b.ok(b.p.Start(ctx, one.Name))
	again, _ := provider.As[provider.NATAddresser](b.h.Again(t, b.p))
	after, err := again.NATAddress(ctx, one.Name, one.ID)
	b.ok(err)
	if after != before {
		t.Errorf("the address was %v and is %v", before, after)
	}
	if _, reached := provider.As[provider.Dialer](b.p); !reached {
		return // each guest may have a network to itself
	}
	other, err := n.NATAddress(ctx, two.Name, two.ID)
	b.ok(err)
	if other == before {
		t.Errorf("two domains have the address %v", other)
	}
}

// hostAddress is for providers that claim [provider.HostAddresser].
func hostAddress(t *testing.T, b *bench) {
	h, ok := provider.As[provider.HostAddresser](b.p)
	if !ok {
		return
	}
	ctx := t.Context()
	one := b.started("core-01")
	at, err := h.HostAddress(ctx, one.Name)
	if elsewhere := h.CheckHostAddress(); elsewhere != nil {
		if err == nil {
			t.Errorf("guests that do not reach this host (%v) reach it at %v", elsewhere, at.Guest)
		}
		return
	}
	b.ok(err)
	if !at.Guest.Is4() || at.Guest.IsUnspecified() || at.Listen.IsUnspecified() {
		t.Errorf("%+v", at)
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(at.Listen, 0).String())
	b.ok(err)
	b.ok(l.Close())
	again, _ := provider.As[provider.HostAddresser](b.h.Again(t, b.p))
	if after, err := again.HostAddress(ctx, one.Name); err != nil || after != at {
		t.Errorf("the address was %+v and is %+v, %v", at, after, err)
	}
	if _, err := h.HostAddress(ctx, "core-02"); err == nil && at.Guest == at.Listen {
		t.Error("a domain that does not exist has an address for the host")
	}
}

// hostOnly is for providers that claim [provider.HostOnlyNetworker].
func hostOnly(t *testing.T, b *bench) {
	p, ok := provider.As[provider.HostOnlyNetworker](b.p)
	if !ok {
		return
	}
	ctx := t.Context()
	dev := provider.HostOnly{Name: "dev", CIDR: netip.MustParsePrefix("172.28.208.0/24")}
	db := provider.HostOnly{Name: "db", CIDR: netip.MustParsePrefix("172.28.209.0/24")}
	exist := func(want ...string) {
		t.Helper()
		again, _ := provider.As[provider.HostOnlyNetworker](b.h.Again(t, b.p))
		have, err := again.Networks(ctx)
		b.ok(err)
		if names := slices.Sorted(maps.Keys(have)); !slices.Equal(names, want) {
			t.Errorf("networks are %q, want %q", names, want)
		}
		for name, works := range have {
			if !works {
				t.Errorf("network %q does not work", name)
			}
		}
	}
	t.Cleanup(func() {
		for _, n := range []string{"dev", "db"} {
			if err := p.DeleteNetwork(context.WithoutCancel(ctx), n); err != nil {
				t.Error(err)
			}
		}
	})
	b.ok(p.DeleteNetwork(ctx, "dev"))
	for range 2 {
		_, err := p.EnsureNetwork(ctx, dev)
		b.ok(err)
	}
	_, err := p.EnsureNetwork(ctx, db)
	b.ok(err)
	exist("db", "dev")

	for i, name := range []string{"core-01", "core-02"} {
		d := b.domain(name)
		address := dev.CIDR.Addr()
		for range 101 + i {
			address = address.Next()
		}
		d.NICs = []provider.NIC{{Network: "dev", MAC: network.MAC(d.ID, "dev").String(), HostOnly: &dev, Address: address}}
		b.ok(b.p.Create(ctx, d))
		b.ok(b.p.Start(ctx, name))
	}
	b.state(b.p, "core-02", provider.Running)
	elsewhere := provider.HostOnly{Name: "dev", CIDR: netip.MustParsePrefix("172.28.210.0/24")}
	if _, err := p.EnsureNetwork(ctx, elsewhere); !errors.Is(err, provider.ErrRunning) {
		t.Errorf("another subnet under running domains: %v, want %v", err, provider.ErrRunning)
	}
	if err := p.DeleteNetwork(ctx, "dev"); !errors.Is(err, provider.ErrRunning) {
		t.Errorf("delete under running domains: %v, want %v", err, provider.ErrRunning)
	}
	_, err = p.EnsureNetwork(ctx, dev)
	b.ok(err)
	for _, name := range []string{"core-01", "core-02"} {
		b.ok(b.p.Delete(ctx, name))
	}
	_, err = p.EnsureNetwork(ctx, elsewhere)
	b.ok(err)
	for range 2 {
		b.ok(p.DeleteNetwork(ctx, "dev"))
	}
	exist("db")
	b.ok(p.DeleteNetwork(ctx, "db"))
	exist()
}

// watch is for providers that claim [provider.Watcher].
func watch(t *testing.T, b *bench) {
	w, ok := provider.As[provider.Watcher](b.h.Again(t, b.p))
	if !ok {
		return
	}
	b.created("core")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	changes := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- w.Watch(ctx, func(name string) {
			select {
			case changes <- name:
			default: // nobody reads that many
			}
		})
	}()
	// told waits until a change of the domain was told after its state was want.
	told := func(want provider.State, act func() error) {
		t.Helper()
		for len(changes) > 0 {
			<-changes
		}
		err := act()
		if _, forced := errors.AsType[*provider.ForcedError](err); !forced {
			b.ok(err)
		}
		timeout := time.After(30 * time.Second)
		for {
			select {
			case name := <-changes:
				if name != "core" && name != "" {
					t.Fatalf("%q has changed", name)
				}
				if st, err := b.p.Status(ctx, "core"); err == nil && st.State == want {
					return
				}
			case <-timeout:
				t.Fatalf("nobody said that the domain is %s", want)
			case err := <-ended:
				t.Fatalf("watching ended: %v", err)
			}
		}
	}
	// Watching may begin a moment after the first call.
	watching, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	b.ok(wait.Until(watching, 100*time.Millisecond, func(ctx context.Context) error {
		if err := b.p.Start(ctx, "core"); err != nil {
			return wait.Permanent(err)
		}
		if len(changes) > 0 {
			return nil
		}
		err := b.p.Stop(ctx, "core")
		if _, forced := errors.AsType[*provider.ForcedError](err); err != nil && !forced {
			return wait.Permanent(err)
		}
		return errors.New("no change was told")
	}))
	told(provider.Stopped, func() error { return b.p.Stop(ctx, "core") })
	told(provider.Running, func() error { return b.p.Start(ctx, "core") })
	stop()
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("watching ended: %v", err)
		}
	case <-time.After(prompt):
		t.Error("watching does not end with its context")
	}
}
