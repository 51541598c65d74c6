// Package providertest holds every provider to the same contract: [Run] is the
// conformance suite, [Fake] a provider in memory that passes it.
package providertest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// Harness joins a provider to the suite.
type Harness struct {
	// New returns a provider with an empty state of its own.
	New func(t *testing.T) provider.Provider
	// Again returns a second value over the state of p, such as the next
	// hostctl process has.
	Again func(t *testing.T, p provider.Provider) provider.Provider
	// Domain returns a small domain without forwards. Its guest may be
	// anything that stays powered on, and should print to the serial console
	// if it can.
	Domain func(t *testing.T, name string) provider.Domain
	// Kill ends the domain's VM behind the provider's back, as a crash would.
	Kill func(t *testing.T, p provider.Provider, name string)
	// Leftovers names what p's domains and networks have left on the host once
	// they are deleted: processes, files, sockets, interfaces.
	Leftovers func(t *testing.T, p provider.Provider) []string
}

// prompt is how fast a call with a cancelled context, or a Status, must
// return on a busy machine.
const prompt = 2 * time.Second

// Run runs the suite. Each test gets a provider of its own, and fails when it
// leaves something behind after Delete.
func Run(t *testing.T, h Harness) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"check finds an accelerator", checkHost},
		{"unknown names", unknownNames},
		{"create twice", createTwice},
		{"create updates a stopped domain", createUpdates},
		{"create refuses a running domain", createWhileRunning},
		{"create rejects a missing base image", missingBase},
		{"start twice", startTwice},
		{"start at the same time", startConcurrently},
		{"stop a stopped domain", stopTwice},
		{"status through a life", life},
		{"found again by another process", foundAgain},
		{"two domains at once", twoDomains},
		{"a killed VM is stopped and starts again", killed},
		{"delete a running domain", deleteRunning},
		{"delete and create anew", createAnew},
		{"a taken port", takenPort},
		{"forwards in status", forwardsInStatus},
		{"cancelled calls", cancelled},
		{"concurrent status", concurrentStatus},
		{"console", console},
		{"forwards of a running domain", liveForwards},
		{"the NAT address", natAddress},
		{"the host's address", hostAddress},
		{"host-only networks", hostOnly},
		{"changes are told", watch},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := &bench{t: t, h: h, p: h.New(t)}
			t.Cleanup(b.clean)
			test.run(t, b)
		})
	}
}

// bench is one test's provider and the domains it made.
type bench struct {
	t     *testing.T
	h     Harness
	p     provider.Provider
	names []string
}

func (b *bench) clean() {
	ctx := context.WithoutCancel(b.t.Context())
	for _, name := range b.names {
		if err := b.p.Delete(ctx, name); err != nil {
			b.t.Errorf("delete %s: %v", name, err)
		}
	}
	for _, left := range b.h.Leftovers(b.t, b.p) {
		b.t.Errorf("left behind: %s", left)
	}
}

// domain returns a domain that the test deletes at its end.
func (b *bench) domain(name string) provider.Domain {
	b.names = append(b.names, name)
	return b.h.Domain(b.t, name)
}

// created returns a domain that exists.
func (b *bench) created(name string) provider.Domain {
	b.t.Helper()
	d := b.domain(name)
	b.ok(b.p.Create(b.t.Context(), d))
	return d
}

// started returns a domain that runs.
func (b *bench) started(name string) provider.Domain {
	b.t.Helper()
	d := b.created(name)
	b.ok(b.p.Start(b.t.Context(), name))
	return d
}

func (b *bench) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// stopped fails the test unless Stop has done its work: the suite's guest need
// not know how to shut down.
func (b *bench) stopped(err error) {
	b.t.Helper()
	if _, forced := errors.AsType[*provider.ForcedError](err); !forced {
		b.ok(err)
	}
}

// state fails the test when the domain's state is another.
func (b *bench) state(p provider.Provider, name string, want provider.State) provider.Status {
	b.t.Helper()
	st, err := p.Status(b.t.Context(), name)
	if err != nil {
		b.t.Fatalf("status %s: %v", name, err)
	}
	if st.State != want {
		b.t.Fatalf("status %s: %s, want %s", name, st.State, want)
	}
	return st
}

func (b *bench) missing(name string) {
	b.t.Helper()
	if _, err := b.p.Status(b.t.Context(), name); !errors.Is(err, provider.ErrNotFound) {
		b.t.Fatalf("status %s: %v, want %v", name, err, provider.ErrNotFound)
	}
}

func checkHost(t *testing.T, b *bench) {
	d := b.h.Domain(t, "core")
	host, err := b.p.Check(t.Context(), provider.Needs{Arch: d.Arch, Accel: d.Accel})
	b.ok(err)
	if host.Version == "" || host.Accel == "" || d.Accel != "" && host.Accel != d.Accel {
		t.Errorf("check found %+v for %+v", host, d)
	}
	_, err = b.p.Check(t.Context(), provider.Needs{Arch: d.Arch, Accel: "abacus"})
	if fe, ok := errors.AsType[*provider.FieldError](err); !ok || fe.Field != "accel" {
		t.Errorf("an accelerator that there is not: %v", err)
	}
}

func unknownNames(t *testing.T, b *bench) {
	ctx := t.Context()
	b.missing("nobody")
	for op, err := range map[string]error{
		"start": b.p.Start(ctx, "nobody"),
		"stop":  b.p.Stop(ctx, "nobody"),
	} {
		if !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s: %v, want %v", op, err, provider.ErrNotFound)
		}
	}
	if err := b.p.Delete(ctx, "nobody"); err != nil {
		t.Errorf("delete: %v", err)
	}
}

func createTwice(t *testing.T, b *bench) {
	d := b.created("core")
	b.ok(b.p.Create(t.Context(), d))
	b.state(b.p, "core", provider.Stopped)
}

func createUpdates(t *testing.T, b *bench) {
	d := b.created("core")
	d.Forwards = []network.Forward{forward("web", freePort(t))}
	d.CPUs = 2
	b.ok(b.p.Create(t.Context(), d))
	st := b.state(b.p, "core", provider.Stopped)
	if _, ok := provider.As[provider.Forwarder](b.p); ok && (len(st.Forwards) != 1 || st.Forwards[0] != d.Forwards[0]) {
		t.Errorf("forwards are %v, want %v", st.Forwards, d.Forwards)
	}
	b.ok(b.p.Start(t.Context(), "core"))
	b.state(b.p, "core", provider.Running)
}

func createWhileRunning(t *testing.T, b *bench) {
	d := b.started("core")
	if err := b.p.Create(t.Context(), d); err != nil {
		t.Errorf("the same again: %v", err)
	}
	other := d
	other.CPUs = 2
	if err := b.p.Create(t.Context(), other); !errors.Is(err, provider.ErrRunning) {
		t.Errorf("another: %v, want %v", err, provider.ErrRunning)
	}
	b.state(b.p, "core", provider.Running)
	d.Forwards = []network.Forward{forward("web", freePort(t))}
	if err := b.p.Create(t.Context(), d); err != nil {
		t.Errorf("other forwards alone: %v", err)
	}
	st := b.state(b.h.Again(t, b.p), "core", provider.Running)
	if _, ok := provider.As[provider.Forwarder](b.p); ok && (len(st.Forwards) != 1 || st.Forwards[0] != d.Forwards[0]) {
		t.Errorf("forwards are %v, want %v", st.Forwards, d.Forwards)
	}
}

func missingBase(t *testing.T, b *bench) {
	d := b.domain("core")
	d.Disk.Base += ".missing"
	err := b.p.Create(t.Context(), d)
	if field, ok := errors.AsType[*provider.FieldError](err); !ok || field.Field != "image" {
		t.Errorf("create: %v, want a fault of image", err)
	}
	b.missing("core")
}

func startTwice(t *testing.T, b *bench) {
	b.started("core")
	b.ok(b.p.Start(t.Context(), "core"))
	b.state(b.p, "core", provider.Running)
}

func startConcurrently(t *testing.T, b *bench) {
	b.created("core")
	other := b.h.Again(t, b.p)
	var wg sync.WaitGroup
	for _, p := range []provider.Provider{b.p, b.p, other, other} {
		wg.Go(func() {
			if err := p.Start(t.Context(), "core"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b.state(other, "core", provider.Running)
}

func stopTwice(t *testing.T, b *bench) {
	b.created("core")
	b.stopped(b.p.Stop(t.Context(), "core"))
	b.ok(b.p.Start(t.Context(), "core"))
	b.stopped(b.p.Stop(t.Context(), "core"))
	b.stopped(b.p.Stop(t.Context(), "core"))
	b.state(b.p, "core", provider.Stopped)
}

func life(t *testing.T, b *bench) {
	ctx := t.Context()
	d := b.domain("core")
	b.missing("core")
	b.ok(b.p.Create(ctx, d))
	b.state(b.p, "core", provider.Stopped)
	for range 2 {
		b.ok(b.p.Start(ctx, "core"))
		if st := b.state(b.p, "core", provider.Running); st.Accel == "" {
			t.Error("a running domain has no accelerator")
		}
		b.stopped(b.p.Stop(ctx, "core"))
		b.state(b.p, "core", provider.Stopped)
	}
	b.ok(b.p.Delete(ctx, "core"))
	b.missing("core")
}

func foundAgain(t *testing.T, b *bench) {
	ctx := t.Context()
	b.started("core")
	next := b.h.Again(t, b.p)
	b.state(next, "core", provider.Running)
	b.ok(next.Start(ctx, "core"))
	b.stopped(next.Stop(ctx, "core"))
	b.state(b.p, "core", provider.Stopped)
	b.ok(b.h.Again(t, b.p).Delete(ctx, "core"))
	b.missing("core")
}

func twoDomains(t *testing.T, b *bench) {
	var wg sync.WaitGroup
	for _, name := range []string{"core-01", "core-02"} {
		d := b.domain(name)
		wg.Go(func() {
			if err := b.p.Create(t.Context(), d); err != nil {
				t.Error(err)
			} else if err := b.p.Start(t.Context(), name); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b.state(b.p, "core-01", provider.Running)
	b.state(b.p, "core-02", provider.Running)
	b.stopped(b.p.Stop(t.Context(), "core-01"))
	b.state(b.p, "core-01", provider.Stopped)
	b.state(b.p, "core-02", provider.Running)
}

func killed(t *testing.T, b *bench) {
	b.started("core")
	b.h.Kill(t, b.p, "core")
	b.state(b.p, "core", provider.Stopped)
	b.ok(b.p.Start(t.Context(), "core"))
	b.state(b.p, "core", provider.Running)
	b.h.Kill(t, b.p, "core")
	b.stopped(b.p.Stop(t.Context(), "core"))
}

func deleteRunning(t *testing.T, b *bench) {
	b.started("core")
	b.ok(b.p.Delete(t.Context(), "core"))
	b.missing("core")
	b.ok(b.p.Delete(t.Context(), "core"))
}

func createAnew(t *testing.T, b *bench) {
	first := b.started("core")
	b.ok(b.p.Delete(t.Context(), "core"))
	second := b.h.Domain(t, "core")
	if second.ID == first.ID {
		t.Fatal("the harness gives two domains one id")
	}
	b.ok(b.p.Create(t.Context(), second))
	b.ok(b.p.Start(t.Context(), "core"))
	b.state(b.p, "core", provider.Running)
}

// takenPort is for providers that claim [provider.Forwarder].
func takenPort(t *testing.T, b *bench) {
	if _, ok := provider.As[provider.Forwarder](b.p); !ok {
		return
	}
	ctx := t.Context()
	holder, err := net.Listen("tcp4", "127.0.0.1:0")
	b.ok(err)
	defer holder.Close()
	d := b.domain("core")
	taken := forward("docker", uint16(holder.Addr().(*net.TCPAddr).Port))
	d.Forwards = []network.Forward{forward("web", freePort(t)), taken}
	b.ok(b.p.Create(ctx, d))
	err = b.p.Start(ctx, "core")
	in, ok := errors.AsType[*provider.PortError](err)
	if !ok || in.Forward != taken {
		t.Fatalf("start: %v, want a *PortError for %v", err, taken)
	}
	b.state(b.p, "core", provider.Stopped)
	b.ok(holder.Close())
	b.ok(b.p.Start(ctx, "core"))
	b.state(b.p, "core", provider.Running)
}

// forwardsInStatus is for providers that claim [provider.Forwarder].
func forwardsInStatus(t *testing.T, b *bench) {
	if _, ok := provider.As[provider.Forwarder](b.p); !ok {
		return
	}
	d := b.domain("core")
	d.Forwards = []network.Forward{
		forward("docker", freePort(t)),
		{Name: "dns", Protocol: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: freeUDPPort(t), GuestPort: 53},
	}
	b.ok(b.p.Create(t.Context(), d))
	b.ok(b.p.Start(t.Context(), "core"))
	st := b.state(b.h.Again(t, b.p), "core", provider.Running)
	if len(st.Forwards) != 2 || st.Forwards[0] != d.Forwards[0] || st.Forwards[1] != d.Forwards[1] {
		t.Errorf("forwards are %v, want %v", st.Forwards, d.Forwards)
	}
}

// cancelled calls every method with a context that has ended, then with one
// that ends during the call; afterwards the domain must still obey.
func cancelled(t *testing.T, b *bench) {
	d := b.created("core")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, statusErr := b.p.Status(over, "core")
	for op, err := range map[string]error{
		"create": b.p.Create(over, d),
		"start":  b.p.Start(over, "core"),
		"stop":   b.p.Stop(over, "core"),
		"delete": b.p.Delete(over, "core"),
		"status": statusErr,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %v", op, err, context.Canceled)
		}
	}
	b.state(b.p, "core", provider.Stopped)

	for _, op := range []func(context.Context, string) error{b.p.Start, b.p.Stop} {
		// Whether the call or the end of its context comes first differs; both
		// must leave a domain that the next call can handle.
		soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		began := time.Now()
		if err := op(soon, "core"); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, wait.ErrTimeout) {
			t.Errorf("cut off: %v", err)
		}
		if took := time.Since(began); took > prompt {
			t.Errorf("a call returned %s after it was cut off", took)
		}
		cancel()
		b.ok(b.p.Start(t.Context(), "core"))
		b.state(b.p, "core", provider.Running)
	}
}

func concurrentStatus(t *testing.T, b *bench) {
	b.started("core")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				began := time.Now()
				st, err := b.p.Status(t.Context(), "core")
				if err != nil || st.State != provider.Running {
					t.Errorf("status: %v, %v", st.State, err)
				}
				if took := time.Since(began); took > prompt {
					t.Errorf("status took %s", took)
				}
			}
		})
	}
	wg.Wait()
}

// console is for providers that claim [provider.Console].
func console(t *testing.T, b *bench) {
	c, ok := provider.As[provider.Console](b.p)
	if !ok {
		return
	}
	if _, err := c.Console(t.Context(), "nobody"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("unknown: %v, want %v", err, provider.ErrNotFound)
	}
	read := func() []byte {
		t.Helper()
		r, err := c.Console(t.Context(), "core")
		b.ok(err)
		defer r.Close()
		data, err := io.ReadAll(r)
		b.ok(err)
		return data
	}
	b.created("core")
	if out := read(); len(out) != 0 {
		t.Errorf("a domain that never ran has said %q", out)
	}
	b.ok(b.p.Start(t.Context(), "core"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	b.ok(wait.Until(ctx, 50*time.Millisecond, func(context.Context) error {
		if len(read()) == 0 {
			return errors.New("the console is empty")
		}
		return nil
	}))
	b.stopped(b.p.Stop(t.Context(), "core"))
	if len(read()) == 0 {
		t.Error("the console is empty once the domain is stopped")
	}
}

func forward(name string, port uint16) network.Forward {
	return network.Forward{Name: name, Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port, GuestPort: 80}
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func freeUDPPort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}
