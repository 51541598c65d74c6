// Package proxy carries forwards in user space: what arrives at a host port
// goes to a guest that has an address of its own, or is reached some other way.
package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hostctl/hostctl/network"
)

// Dial connects to the guest's side of a forward. For udp every Write of the
// connection is a datagram, and every Read. Connections on which a direction
// can end by itself have a method CloseWrite, as [*net.TCPConn] has.
type Dial func(ctx context.Context) (net.Conn, error)

// limits of a listener; tests have shorter ones.
type limits struct {
	dial     time.Duration // for a connection to the guest to come about
	dialing  int           // connections that wait for theirs at one time
	patience time.Duration // after which one waits among the slow ones
	slow     int           // connections that wait there at one time
	sessions int           // of udp clients
	idle     time.Duration // ends a udp session on which the guest said nothing
	assured  time.Duration // ends one on which it did
}

// The times of udp are those of Linux's conntrack, but for its 30 seconds
// before the first answer: a guest that is emulated is slow.
var defaults = limits{
	dial:     30 * time.Second,
	dialing:  16,
	patience: time.Second,
	slow:     256,
	sessions: 1024,
	idle:     60 * time.Second,
	assured:  180 * time.Second,
}

// Listener is a forward in force.
type Listener struct {
	addr   netip.AddrPort
	cancel context.CancelFunc
	socket interface{ Close() error }
	tasks  *sync.WaitGroup
}

// Listen binds the host's side of f and carries what comes until Close. ctx
// bounds the call alone. A host port that is taken gives a
// *[network.InUseError]; port 0 lets the system choose one.
//
// TCP: each direction ends by itself, and a side that does not read makes the
// other wait. A guest that refuses, or a connection that breaks off on one
// side, resets the other side's. On Linux an idle connection takes some 3 KiB
// of memory and no goroutine. When the process runs out of file
// descriptors, of which a connection takes two, further clients wait until
// others have gone.
//
// UDP: each client address has a session, a connection of its own to the
// guest. It ends a minute after the client's last datagram, or three after
// the last in either direction once the guest has answered. At 1,024 sessions
// the one that was silent longest makes room.
//
// log hears, at debug level, what befalls single connections.
func Listen(ctx context.Context, f network.Forward, dial Dial, log *slog.Logger) (*Listener, error) {
	return listen(ctx, f, dial, log, defaults)
}

func listen(ctx context.Context, f network.Forward, dial Dial, log *slog.Logger, lim limits) (*Listener, error) {
	// On macOS and Windows a port can be bound beside a listener on all
	// addresses, which then gets nothing any more.
	if err := network.Probe(ctx, f); err != nil {
		return nil, err
	}
	lasting, cancel := context.WithCancel(context.Background())
	l := &Listener{cancel: cancel, tasks: new(sync.WaitGroup)}
	log = log.With("forward", f.Name)
	if err := l.start(ctx, lasting, f, dial, log, lim); err != nil {
		cancel()
		if in := network.Probe(ctx, f); in != nil {
			err = in // says who was faster
		}
		return nil, err
	}
	return l, nil
}

func (l *Listener) start(ctx, lasting context.Context, f network.Forward, dial Dial, log *slog.Logger, lim limits) error {
	version := "6"
	if f.HostIP.Is4() {
		version = "4"
	}
	switch f.Protocol {
	case "tcp":
		lc := net.ListenConfig{KeepAliveConfig: keepAlive}
		s, err := lc.Listen(ctx, "tcp"+version, f.HostAddr().String())
		if err != nil {
			return err
		}
		r, err := newTCPRelay(dial, log, lim, l.tasks)
		if err != nil {
			s.Close()
			return err
		}
		l.socket, l.addr = s, s.Addr().(*net.TCPAddr).AddrPort()
		l.tasks.Go(func() { r.accept(lasting, s) })
	case "udp":
		var lc net.ListenConfig
		s, err := lc.ListenPacket(ctx, "udp"+version, f.HostAddr().String())
		if err != nil {
			return err
		}
		l.socket, l.addr = s, s.LocalAddr().(*net.UDPAddr).AddrPort()
		r := newUDPRelay(s.(*net.UDPConn), dial, log, lim, l.tasks)
		l.tasks.Go(func() { r.receive(lasting) })
	default:
		return fmt.Errorf("unknown protocol %q: not tcp or udp", f.Protocol)
	}
	return nil
}

// Addr returns the host's side.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Close frees the port, resets the connections and returns when all is done.
func (l *Listener) Close() error {
	l.cancel()
	err := l.socket.Close()
	l.tasks.Wait()
	return err
}
