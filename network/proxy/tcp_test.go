package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/network"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func forward(protocol string) network.Forward {
	return network.Forward{Name: "test", Protocol: protocol, HostIP: loopback}
}

// to dials addr.
func to(network, addr string) Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
}

// start listens until the test ends.
func start(t *testing.T, protocol string, dial Dial, lim limits) *Listener {
	t.Helper()
	return startAt(t, forward(protocol), dial, lim)
}

func startAt(t *testing.T, f network.Forward, dial Dial, lim limits) *Listener {
	t.Helper()
	l, err := listen(t.Context(), f, dial, slog.New(slog.DiscardHandler), lim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// guest listens on a port of its own, as a guest's program does.
func guest(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func dialTCP(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// through returns both ends of a connection through a proxy of its own.
func through(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	_, client, server = throughListener(t)
	return client, server
}

// throughListener is through for who closes the proxy.
func throughListener(t *testing.T) (l *Listener, client, server *net.TCPConn) {
	t.Helper()
	g := guest(t)
	l = start(t, "tcp", to("tcp4", g.Addr().String()), defaults)
	client = dialTCP(t, l.Addr().String())
	server, err := g.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return l, client, server
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
		t.Fatalf("read %q, %v; want %q", buf, err, want)
	}
}

func write(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if _, err := c.Write([]byte(what)); err != nil {
		t.Fatal(err)
	}
}

// Each direction ends by itself, whichever side is first.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"client", "guest"} {
		t.Run(first+" first", func(t *testing.T) {
			t.Parallel()
			a, b := through(t)
			if first == "guest" {
				a, b = b, a
			}
			write(t, a, "question")
			if err := a.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(b); err != nil || string(got) != "question" {
				t.Fatalf("got %q, %v", got, err)
			}
			write(t, b, "answer, ")
			read(t, a, "answer, ")
			write(t, b, "and more")
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(a); err != nil || string(got) != "and more" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// Everything arrives as it was sent, in both directions at once, by way of
// sockets and of connections that are none.
func TestBulk(t *testing.T) {
	t.Parallel()
	data := make([]byte, 48<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		wrap func(net.Conn) net.Conn
	}{
		{"socket", func(c net.Conn) net.Conn { return c }},
		{"stream", func(c net.Conn) net.Conn { return stream{c, c.(*net.TCPConn)} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := guest(t)
			dial := to("tcp4", g.Addr().String())
			l := start(t, "tcp", func(ctx context.Context) (net.Conn, error) {
				conn, err := dial(ctx)
				if err != nil {
					return nil, err
				}
				return c.wrap(conn), nil
			}, defaults)
			client := dialTCP(t, l.Addr().String())
			server, err := g.AcceptTCP()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			var all errgroup.Group
			for _, conn := range []*net.TCPConn{client, server} {
				all.Go(func() error {
					if _, err := conn.Write(data); err != nil {
						return err
					}
					return conn.CloseWrite()
				})
				all.Go(func() error {
					got, err := io.ReadAll(conn)
					if err == nil && !bytes.Equal(got, data) {
						err = errors.New("it is not what was sent")
					}
					return err
				})
			}
			if err := all.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// stream is a connection with half-close that is no socket, as one through
// SSH is.
type stream struct {
	net.Conn
	tcp *net.TCPConn
}

func (s stream) CloseWrite() error { return s.tcp.CloseWrite() }

// A guest that does not read makes the client wait, and nothing is lost.
func TestBackpressure(t *testing.T) {
	t.Parallel()
	client, server := through(t)
	if err := server.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	if err := client.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	const all = 512 << 20 // far more than the sockets on the way can hold
	var sent int64
	chunk := make([]byte, 1<<20)
	for sent < all {
		n, err := client.Write(chunk)
		sent += int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if sent >= all {
		t.Fatal("nobody reads, and the client may write for ever")
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.Copy(io.Discard, server); err != nil || got != sent {
		t.Errorf("%d bytes arrived, %v; %d were sent", got, err, sent)
	}
}

// connectsToReset connects to a listener that resets the connection at once.
func connectsToReset(t *testing.T, l *Listener) {
	t.Helper()
	c, err := net.Dial("tcp4", l.Addr().String())
	if errors.Is(err, syscall.ECONNRESET) { // that quick
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	isReset(t, c)
}

// isReset reads on until c fails, which it must do at once.
func isReset(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestGuestRefuses(t *testing.T) {
	t.Parallel()
	g := guest(t)
	addr := g.Addr().String()
	g.Close()
	l := start(t, "tcp", to("tcp4", addr), defaults)
	connectsToReset(t, l)
}

func TestGuestDoesNotAnswer(t *testing.T) {
	t.Parallel()
	short := defaults
	short.dial = 10 * time.Millisecond
	l := start(t, "tcp", func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}, short)
	connectsToReset(t, l)
}

// A connection that breaks off on one side is broken off on the other, also
// when that one has ended its direction.
func TestReset(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, breaks, ended string }{
		{"client", "client", ""},
		{"guest", "guest", ""},
		{"client, guest has ended", "client", "guest"},
		{"guest, client has ended", "guest", "client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ends := make(map[string]*net.TCPConn)
			ends["client"], ends["guest"] = through(t)
			write(t, ends["client"], "hello")
			read(t, ends["guest"], "hello")
			other := "client"
			if c.breaks == "client" {
				other = "guest"
			}
			if c.ended != "" {
				if err := ends[c.ended].CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(ends[c.breaks]); err != nil {
					t.Fatal(err)
				}
			}
			reset(ends[c.breaks])
			isReset(t, ends[other])
		})
	}
}

// A connection without half-close ends as a whole with the client's direction.
func TestNoHalfClose(t *testing.T) {
	t.Parallel()
	inside, server := net.Pipe()
	l := start(t, "tcp", func(context.Context) (net.Conn, error) { return inside, nil }, defaults)
	client := dialTCP(t, l.Addr().String())
	write(t, client, "question")
	read(t, server, "question")
	go server.Write([]byte("answer"))
	read(t, client, "answer")
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(server); err != nil || len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestListenTakenPort(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"tcp", "udp"} {
		f := forward(protocol)
		f.HostPort = start(t, protocol, to("tcp4", "127.0.0.1:1"), defaults).Addr().Port()
		_, err := Listen(t.Context(), f, to("tcp4", "127.0.0.1:1"), slog.New(slog.DiscardHandler))
		in, ok := errors.AsType[*network.InUseError](err)
		if !ok || in.Holder == nil || in.Holder.PID != os.Getpid() {
			t.Errorf("%s: got %v", protocol, err)
		}
	}
	if _, err := Listen(t.Context(), forward("sctp"), nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("it listens on sctp")
	}
}

// isFree fails when the port of l stays taken after l was closed. A program
// that another test starts has it, too, between fork and exec.
func isFree(t *testing.T, f network.Forward, l *Listener) {
	t.Helper()
	f.HostPort = l.Addr().Port()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := wait.Until(ctx, time.Millisecond, func(ctx context.Context) error { return network.Probe(ctx, f) })
	if err != nil {
		t.Errorf("the port is not free: %v", err)
	}
}

// elsewhere is an address from which the system connects to none: a port of
// it that is free stays so while tests run beside this one.
func elsewhere(protocol string) network.Forward {
	f := forward(protocol)
	f.HostIP = netip.MustParseAddr("127.0.0.2")
	return f
}

// Close ends everything: connections, those that are being made, goroutines.
func TestClose(t *testing.T) {
	t.Parallel()
	g := guest(t)
	dial := to("tcp4", g.Addr().String())
	dialling := make(chan struct{})
	var n atomic.Int32
	f := elsewhere("tcp")
	l := startAt(t, f, func(ctx context.Context) (net.Conn, error) {
		if n.Add(1) == 1 {
			return dial(ctx)
		}
		close(dialling)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}, defaults)
	client := dialTCP(t, l.Addr().String())
	server, err := g.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	write(t, client, "hello")
	read(t, server, "hello")
	second := dialTCP(t, l.Addr().String())
	<-dialling
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range []*net.TCPConn{client, second, server} {
		isReset(t, c)
	}
	isFree(t, f, l)
}

// Clients for whom the guest does not answer do not keep others waiting.
func TestSlowGuest(t *testing.T) {
	t.Parallel()
	g := guest(t)
	var dials atomic.Int32
	few := defaults
	few.dialing, few.patience, few.slow = 2, time.Millisecond, 4
	l := start(t, "tcp", func(ctx context.Context) (net.Conn, error) {
		if dials.Add(1) <= 5 { // more than slots
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return to("tcp4", g.Addr().String())(ctx)
	}, few)
	for n := range int32(5) {
		dialTCP(t, l.Addr().String())
		if err := wait.Until(t.Context(), time.Millisecond, func(context.Context) error {
			if dials.Load() <= n {
				return errors.New("not dialled yet")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	c := dialTCP(t, l.Addr().String())
	server, err := g.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	write(t, c, "hello")
	read(t, server, "hello")
}
