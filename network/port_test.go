package network_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/network"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// hold listens until the test ends and returns the port.
func hold(t *testing.T, netw, addr string) uint16 {
	t.Helper()
	if strings.HasPrefix(netw, "udp") {
		c, err := net.ListenPacket(netw, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return uint16(c.LocalAddr().(*net.UDPAddr).Port)
	}
	l, err := net.Listen(netw, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestProbeTakenPort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, network, held, protocol, wanted string }{
		{"the same address", "tcp4", "127.0.0.1:0", "tcp", "127.0.0.1"},
		{"held on all IPv4 addresses", "tcp4", "0.0.0.0:0", "tcp", "127.0.0.1"},
		{"held on all addresses", "tcp", "[::]:0", "tcp", "127.0.0.1"},
		{"wanted on all addresses", "tcp4", "127.0.0.1:0", "tcp", "0.0.0.0"},
		{"udp", "udp4", "127.0.0.1:0", "udp", "127.0.0.1"},
		{"udp held on all addresses", "udp4", "0.0.0.0:0", "udp", "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			port := hold(t, c.network, c.held)
			f := network.Forward{Protocol: c.protocol, HostIP: netip.MustParseAddr(c.wanted), HostPort: port}
			err := network.Probe(t.Context(), f)
			in, ok := errors.AsType[*network.InUseError](err)
			if !ok || in.Holder == nil || in.Holder.PID != os.Getpid() {
				t.Fatalf("got %#v, want this process as the holder", err)
			}
			if want := fmt.Sprintf("%s:%d is in use by network.test (pid %d)", c.wanted, port, os.Getpid()); err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
		})
	}
}

func TestProbeFreePort(t *testing.T) {
	t.Parallel()
	// A TCP listener does not take the UDP port.
	port := hold(t, "tcp4", "127.0.0.1:0")
	if err := network.Probe(t.Context(), network.Forward{Protocol: "udp", HostIP: loopback, HostPort: port}); err != nil {
		t.Error(err)
	}
	// Nor one on another address.
	port = hold(t, "tcp4", "127.0.0.2:0")
	if err := network.Probe(t.Context(), network.Forward{Protocol: "tcp", HostIP: loopback, HostPort: port}); err != nil {
		t.Error(err)
	}
	if p, ok := network.Holder(t.Context(), "tcp", netip.AddrPortFrom(loopback, port)); ok {
		t.Errorf("%s holds a free port", p)
	}
}

// A port with connections in TIME_WAIT, as a machine that just stopped leaves
// it, is free.
func TestProbeAfterConnections(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	// The side that closes first waits.
	for _, c := range []interface{ Close() error }{server, client, l} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	if err := network.Probe(t.Context(), network.Forward{Protocol: "tcp", HostIP: addr.Addr(), HostPort: addr.Port()}); err != nil {
		t.Error(err)
	}
}

func TestProbeOtherFailures(t *testing.T) {
	t.Parallel()
	in := func(err error) bool { _, ok := errors.AsType[*network.InUseError](err); return ok }
	// 203.0.113.0/24 is for documentation: no host has it.
	err := network.Probe(t.Context(), network.Forward{Protocol: "tcp", HostIP: netip.MustParseAddr("203.0.113.1"), HostPort: 2375})
	if err == nil || in(err) {
		t.Errorf("a foreign address: %v", err)
	}
	err = network.Probe(t.Context(), network.Forward{Protocol: "sctp", HostIP: loopback, HostPort: 2375})
	if err == nil || err.Error() != `unknown protocol "sctp": not tcp or udp` {
		t.Errorf("a foreign protocol: %v", err)
	}
}

func TestNextFree(t *testing.T) {
	t.Parallel()
	port := hold(t, "tcp4", "0.0.0.0:0")
	if port > 65000 {
		t.Fatalf("the system chose port %d, too near the end", port)
	}
	f := network.Forward{Protocol: "tcp", HostIP: loopback, HostPort: port}
	free, err := network.NextFree(t.Context(), f, nil)
	if err != nil || free <= port {
		t.Fatalf("got %d, %v after %d", free, err, port)
	}
	second, err := network.NextFree(t.Context(), f, func(p uint16) bool { return p == free })
	if err != nil || second <= free {
		t.Errorf("got %d, %v though %d is spoken for", second, err, free)
	}
	_, err = network.NextFree(t.Context(), f, func(uint16) bool { return true })
	if want := "no free tcp port: all ports are taken"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	f.HostIP = netip.MustParseAddr("203.0.113.1")
	if port, err := network.NextFree(t.Context(), f, nil); err == nil {
		t.Errorf("found port %d on a foreign address", port)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := network.NextFree(ctx, f, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestForwardString(t *testing.T) {
	t.Parallel()
	f := network.Forward{Name: "docker", Protocol: "tcp", HostIP: loopback, HostPort: 2376, GuestPort: 2375}
	if got, want := f.String(), "127.0.0.1:2376 -> 2375/tcp"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
