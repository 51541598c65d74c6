package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
)

// echo answers every datagram until the test ends.
func echo(t *testing.T, addr string) *net.UDPConn {
	t.Helper()
	at, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP("udp4", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, largeBuffer)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return c
}

func dialUDP(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("udp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func answers(t *testing.T, c net.Conn, what []byte) {
	t.Helper()
	if _, err := c.Write(what); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, largeBuffer)
	if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:n], what) {
		t.Fatalf("%d bytes came back, %v; %d were sent", n, err, len(what))
	}
}

// Clients have sessions of their own, and datagrams of every size keep their
// bounds.
func TestUDP(t *testing.T) {
	t.Parallel()
	server := echo(t, "127.0.0.1:0")
	l := start(t, "udp", to("udp4", server.LocalAddr().String()), defaults)
	var clients []net.Conn
	for range 20 {
		clients = append(clients, dialUDP(t, l))
	}
	for _, size := range []int{0, 1, 1472, 9000, 65507} {
		for i, c := range clients {
			answers(t, c, bytes.Repeat([]byte{byte(i)}, size))
		}
	}
}

// A port on which nobody listens yet does not end the forward, nor the
// client's session.
func TestUDPGuestRefuses(t *testing.T) {
	t.Parallel()
	server := echo(t, "127.0.0.1:0")
	addr := server.LocalAddr().String()
	server.Close()
	l := start(t, "udp", to("udp4", addr), defaults)
	c := dialUDP(t, l)
	for range 5 {
		write(t, c, "lost")
	}
	echo(t, addr)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := wait.Until(ctx, time.Millisecond, func(context.Context) error {
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 16))
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// While the guest is being dialled, which a tunnel can make slow, datagrams
// wait, and other clients do not.
func TestUDPSlowDial(t *testing.T) {
	t.Parallel()
	server := echo(t, "127.0.0.1:0")
	dial := to("udp4", server.LocalAddr().String())
	dialling, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l := start(t, "udp", func(ctx context.Context) (net.Conn, error) {
		once.Do(func() {
			close(dialling)
			<-goOn
		})
		return dial(ctx)
	}, defaults)
	slow := dialUDP(t, l)
	write(t, slow, "first")
	<-dialling
	// once makes the second wait, too, if it dials before the first is done.
	write(t, slow, "second")
	close(goOn)
	read(t, slow, "first")
	read(t, slow, "second")
	answers(t, dialUDP(t, l), []byte("hello"))
}

func TestUDPClose(t *testing.T) {
	t.Parallel()
	server := echo(t, "127.0.0.1:0")
	f := elsewhere("udp")
	l := startAt(t, f, to("udp4", server.LocalAddr().String()), defaults)
	answers(t, dialUDP(t, l), []byte("hello"))
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	isFree(t, f, l)
}

// fakeSocket is the host's side without a network, so that time can be the
// test's own.
type fakeSocket struct {
	in  chan packet
	out chan packet
}

type packet struct {
	peer netip.AddrPort
	data string
}

func (f *fakeSocket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	p, ok := <-f.in
	if !ok {
		return 0, netip.AddrPort{}, net.ErrClosed
	}
	return copy(b, p.data), p.peer, nil
}

func (f *fakeSocket) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	f.out <- packet{addr, string(b)}
	return len(b), nil
}

// fakeGuests counts the sessions' connections. "q" is answered, other
// datagrams are not.
type fakeGuests struct {
	mu       sync.Mutex
	open, in int
}

func (g *fakeGuests) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	g.mu.Lock()
	g.open++
	g.in++
	g.mu.Unlock()
	go func() {
		buf := make([]byte, 16)
		for {
			n, err := theirs.Read(buf)
			if err != nil {
				break
			}
			if string(buf[:n]) == "q" {
				if _, err := theirs.Write([]byte("a")); err != nil {
					break
				}
			}
		}
		g.mu.Lock()
		g.open--
		g.mu.Unlock()
	}()
	return ours, nil
}

func (g *fakeGuests) check(t *testing.T, open, ever int) {
	t.Helper()
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != open || g.in != ever {
		t.Errorf("%d of %d sessions are open, want %d of %d", g.open, g.in, open, ever)
	}
}

// fakeRelay runs f with a udp forward in a bubble whose time is its own.
func fakeRelay(t *testing.T, lim limits, f func(t *testing.T, s *fakeSocket, g *fakeGuests)) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSocket{in: make(chan packet), out: make(chan packet, 100)}
		g := &fakeGuests{}
		var tasks sync.WaitGroup
		r := newUDPRelay(s, g.dial, slog.New(slog.DiscardHandler), lim, &tasks)
		tasks.Go(func() { r.receive(context.Background()) })
		f(t, s, g)
		close(s.in)
		tasks.Wait()
		g.check(t, 0, g.in)
	})
}

func client(n int) netip.AddrPort { return netip.AddrPortFrom(loopback, uint16(40000+n)) }

func TestUDPIdle(t *testing.T) {
	t.Parallel()
	const moment = time.Millisecond
	pass := func(d time.Duration) { <-time.After(d) }
	fakeRelay(t, defaults, func(t *testing.T, s *fakeSocket, g *fakeGuests) {
		// Without an answer: a minute after the last datagram.
		s.in <- packet{client(1), "x"}
		pass(defaults.idle - moment)
		g.check(t, 1, 1)
		s.in <- packet{client(1), "x"}
		pass(defaults.idle - moment)
		g.check(t, 1, 1)
		pass(2 * moment)
		g.check(t, 0, 1)
		// With one: three minutes.
		s.in <- packet{client(1), "q"}
		if got, want := <-s.out, (packet{client(1), "a"}); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
		pass(defaults.assured - moment)
		g.check(t, 1, 2)
		pass(2 * moment)
		g.check(t, 0, 2)
		// And a new session after that.
		s.in <- packet{client(1), "x"}
		g.check(t, 1, 3)
	})
}

// At the bound, the session whose client was silent longest makes room.
func TestUDPSessionsAreBounded(t *testing.T) {
	t.Parallel()
	few := defaults
	few.sessions = 3
	fakeRelay(t, few, func(t *testing.T, s *fakeSocket, g *fakeGuests) {
		for _, n := range []int{1, 2, 3, 1, 4} { // 2 goes
			s.in <- packet{client(n), "x"}
		}
		g.check(t, 3, 4)
		s.in <- packet{client(1), "q"}
		s.in <- packet{client(3), "q"}
		s.in <- packet{client(4), "q"}
		g.check(t, 3, 4)
		s.in <- packet{client(2), "q"}
		g.check(t, 3, 5)
		for range 4 {
			if got := <-s.out; got.data != "a" {
				t.Errorf("got %v", got)
			}
		}
	})
}

// A guest that cannot be reached costs the client its datagrams, no more.
func TestUDPDialFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSocket{in: make(chan packet), out: make(chan packet, 1)}
		var tasks sync.WaitGroup
		tries := 0
		r := newUDPRelay(s, func(context.Context) (net.Conn, error) {
			tries++
			return nil, errors.New("no way")
		}, slog.New(slog.DiscardHandler), defaults, &tasks)
		tasks.Go(func() { r.receive(context.Background()) })
		for i := range 3 {
			s.in <- packet{client(1), fmt.Sprint(i)}
			synctest.Wait()
		}
		if tries != 3 || len(r.sessions) != 0 {
			t.Errorf("%d tries, %d sessions", tries, len(r.sessions))
		}
		close(s.in)
		tasks.Wait()
	})
}

// brokenSocket fails without end, and counts how often.
type brokenSocket struct {
	fakeSocket
	reads int
	ended chan struct{}
}

func (b *brokenSocket) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	select {
	case <-b.ended:
		return 0, netip.AddrPort{}, net.ErrClosed
	default:
		b.reads++
		return 0, netip.AddrPort{}, errors.New("broken")
	}
}

// A socket that goes on failing keeps no processor busy.
func TestUDPBrokenSocket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &brokenSocket{ended: make(chan struct{})}
		var tasks sync.WaitGroup
		r := newUDPRelay(s, (&fakeGuests{}).dial, slog.New(slog.DiscardHandler), defaults, &tasks)
		tasks.Go(func() { r.receive(context.Background()) })
		<-time.After(time.Minute)
		synctest.Wait()
		if most := maxFailures + 60*10; s.reads < maxFailures || s.reads > most {
			t.Errorf("%d reads in a minute, want at most %d", s.reads, most)
		}
		close(s.ended)
		tasks.Wait()
	})
}
