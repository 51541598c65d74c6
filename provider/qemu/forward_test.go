package qemu_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

func listenTCP(t *testing.T, addr string) (port uint16, release func()) {
	t.Helper()
	l, err := net.Listen("tcp4", addr)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), func() { must(t, l.Close()) }
}

// live are the forwards that QEMU has, told by what it keeps: names it does not.
func live(t *testing.T, p provider.Forwarder, fs ...network.Forward) {
	t.Helper()
	got, err := p.LiveForwards(t.Context(), "core")
	must(t, err)
	for i := range fs {
		fs[i].Name = ""
	}
	for _, list := range [][]network.Forward{got, fs} {
		slices.SortFunc(list, func(a, b network.Forward) int { return int(a.HostPort) - int(b.HostPort) })
	}
	if !slices.Equal(got, fs) {
		t.Errorf("QEMU forwards %v, want %v", got, fs)
	}
}

func TestForwardsOfARunningDomain(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	loopback := netip.MustParseAddr("127.0.0.1")
	free := func() uint16 {
		port, release := listenTCP(t, "127.0.0.1:0")
		release()
		return port
	}
	d := newDomain(t, "core")
	declared := network.Forward{Name: "ssh", Protocol: "tcp", HostIP: loopback, HostPort: free(), GuestPort: 22}
	d.Forwards = []network.Forward{declared}
	must(t, p.Create(t.Context(), d))

	web := network.Forward{Name: "web", Protocol: "tcp", HostIP: loopback, HostPort: free(), GuestPort: 80}
	everywhere := network.Forward{Name: "all", Protocol: "udp", HostIP: netip.IPv4Unspecified(), HostPort: free(), GuestPort: 53}
	if _, err := p.LiveForwards(t.Context(), "core"); !errors.Is(err, provider.ErrNotRunning) {
		t.Errorf("a stopped domain: %v", err)
	}
	if err := p.AddForward(t.Context(), "nobody", web); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("an unknown domain: %v", err)
	}
	must(t, p.Start(t.Context(), "core"))
	live(t, p, declared)

	for range 2 { // the second finds them
		must(t, p.AddForward(t.Context(), "core", web))
		must(t, p.AddForward(t.Context(), "core", everywhere))
		live(t, p, declared, web, everywhere)
	}
	conn, err := net.Dial("tcp4", web.HostAddr().String())
	must(t, err)
	defer conn.Close()

	// What the guest's file says, and what the next start binds, is Create's.
	d.Forwards = []network.Forward{declared, web}
	must(t, p.Create(t.Context(), d))
	st, err := at.provider(0).Status(t.Context(), "core")
	if err != nil || st.State != provider.Running || !slices.Equal(st.Forwards, d.Forwards) {
		t.Errorf("status: %+v, %v", st, err)
	}

	other := web
	other.GuestPort = 81
	must(t, p.RemoveForward(t.Context(), "core", other)) // has the host's side, but is another
	live(t, p, declared, web, everywhere)
	err = p.AddForward(t.Context(), "core", other)
	taken, ok := errors.AsType[*provider.PortError](err)
	if !ok || taken.Forward != other {
		t.Errorf("QEMU's own port: %v", err)
	}
	for range 2 {
		must(t, p.RemoveForward(t.Context(), "core", web))
		must(t, p.RemoveForward(t.Context(), "core", everywhere))
		live(t, p, declared)
	}
	must(t, p.AddForward(t.Context(), "core", other))
	live(t, p, declared, other)
}

func TestAddForwardNamesThePort(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	must(t, p.Create(t.Context(), newDomain(t, "core")))
	must(t, p.Start(t.Context(), "core"))
	port, release := listenTCP(t, "0.0.0.0:0") // holds it on 127.0.0.1 too
	f := network.Forward{Name: "web", Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port, GuestPort: 80}
	err := p.AddForward(t.Context(), "core", f)
	if _, ok := errors.AsType[*provider.PortError](err); !ok {
		t.Fatalf("a taken port: %v", err)
	}
	if want := fmt.Sprintf(`forward "web": host port %s is in use by qemu.test (pid %d)`, f.HostAddr(), os.Getpid()); err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	release()
	must(t, p.AddForward(t.Context(), "core", f))

	// 203.0.113.0/24 is for documentation: no host has it.
	f.HostIP = netip.MustParseAddr("203.0.113.1")
	err = p.AddForward(t.Context(), "core", f)
	if fe, ok := errors.AsType[*provider.FieldError](err); !ok || fe.Field != "host_ip" || fe.Forward != "web" {
		t.Errorf("a foreign address: %v", err)
	}
	f.HostIP = netip.IPv6Loopback()
	err = p.AddForward(t.Context(), "core", f)
	if fe, ok := errors.AsType[*provider.FieldError](err); !ok || fe.Field != "host_ip" {
		t.Errorf("an IPv6 address: %v", err)
	}
}

func TestForwardsWithoutNAT(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	d := newDomain(t, "core")
	d.NoNAT = true
	must(t, p.Create(t.Context(), d))
	must(t, p.Start(t.Context(), "core"))
	live(t, p)
	f := network.Forward{Name: "web", Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, GuestPort: 80}
	err := p.AddForward(t.Context(), "core", f)
	if fe, ok := errors.AsType[*provider.FieldError](err); !ok || fe.Field != "nat" ||
		err.Error() != `nat: forward "web" needs it: QEMU forwards on the NAT network only` {
		t.Errorf("got %v", err)
	}
}
