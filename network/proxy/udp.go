package proxy

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// packetConn is what a udp forward needs of its [*net.UDPConn].
type packetConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
}

// udpRelay is a udp forward in force.
type udpRelay struct {
	socket packetConn
	dial   Dial
	log    *slog.Logger
	limits limits
	tasks  *sync.WaitGroup

	mu       sync.Mutex
	sessions map[netip.AddrPort]*list.Element // of *session, by client
	order    *list.List                       // the client that sent last is in front
}

func newUDPRelay(socket packetConn, dial Dial, log *slog.Logger, lim limits, tasks *sync.WaitGroup) *udpRelay {
	return &udpRelay{
		socket: socket, dial: dial, log: log, limits: lim, tasks: tasks,
		sessions: make(map[netip.AddrPort]*list.Element), order: list.New(),
	}
}

// receive gives every datagram to its client's session until the socket is
// closed. The sessions end with it.
func (r *udpRelay) receive(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	buf := make([]byte, largeBuffer)
	for failures := 0; ; {
		n, client, err := r.socket.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// On Windows a client that has gone is told here. It costs one
			// call for each datagram that was sent to it.
			r.log.Debug("receive", "err", err)
			if failures++; failures >= maxFailures {
				r.pause(ctx)
			}
			continue
		}
		failures = 0
		r.session(ctx, client).toGuest(buf[:n])
	}
}

// maxFailures in a row are no news of clients: what they are does not end by
// itself, and would keep a processor busy.
const maxFailures = 64

// pause waits a moment.
func (r *udpRelay) pause(ctx context.Context) {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// session returns the client's session, a new one where it has none.
func (r *udpRelay) session(ctx context.Context, client netip.AddrPort) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.sessions[client]; ok {
		r.order.MoveToFront(e)
		return e.Value.(*session)
	}
	if len(r.sessions) >= r.limits.sessions {
		r.drop(r.order.Back())
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &session{relay: r, client: client, end: cancel, last: time.Now()}
	r.sessions[client] = r.order.PushFront(s)
	r.tasks.Go(func() {
		defer cancel()
		if err := s.run(ctx); err != nil {
			r.log.Debug("udp session", "client", client, "err", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		// The client may have a new session already.
		if e, ok := r.sessions[client]; ok && e.Value == s {
			r.drop(e)
		}
	})
	return s
}

// drop ends a session; r.mu is held.
func (r *udpRelay) drop(e *list.Element) {
	s := r.order.Remove(e).(*session)
	delete(r.sessions, s.client)
	s.end()
}

// session is what one client sends and gets.
type session struct {
	relay  *udpRelay
	client netip.AddrPort
	end    context.CancelFunc

	mu       sync.Mutex
	guest    net.Conn // nil while it is dialled
	waiting  [][]byte // for it
	last     time.Time
	answered bool
}

// maxWaiting is how many datagrams wait for a connection to the guest. More
// are lost, as datagrams are.
const maxWaiting = 32

// toGuest passes a datagram of the client's on.
func (s *session) toGuest(b []byte) {
	s.mu.Lock()
	s.last = time.Now()
	guest := s.guest
	if guest == nil && len(s.waiting) < maxWaiting {
		s.waiting = append(s.waiting, slices.Clone(b))
	}
	s.mu.Unlock()
	if guest != nil {
		s.write(guest, b)
	}
}

func (s *session) write(guest net.Conn, b []byte) {
	_, err := guest.Write(b)
	if refused(err) {
		// This told of an earlier datagram; this one was not sent.
		_, err = guest.Write(b)
	}
	if err != nil {
		s.relay.log.Debug("send to the guest", "client", s.client, "err", err)
	}
}

// refused reports whether err says that nobody listens on the guest's port.
// That can change.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// run connects to the guest and passes on what it answers, until the session
// was idle for too long, or has to end.
func (s *session) run(ctx context.Context) error {
	guest, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer guest.Close()
	defer context.AfterFunc(ctx, func() { guest.Close() })()
	from, err := newSource(guest, true)
	if err != nil {
		return err
	}
	for {
		left := s.left()
		if left <= 0 {
			return nil
		}
		if err := guest.SetReadDeadline(time.Now().Add(left)); err != nil {
			return err
		}
		err := s.fromGuest(from)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) && !refused(err) {
			return err
		}
	}
}

func (s *session) connect(ctx context.Context) (net.Conn, error) {
	dialling, cancel := context.WithTimeout(ctx, s.relay.limits.dial)
	defer cancel()
	guest, err := s.relay.dial(dialling)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.waiting {
		s.write(guest, b)
	}
	s.guest, s.waiting = guest, nil
	return guest, nil
}

// left is how long the session may still be idle.
func (s *session) left() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.relay.limits.idle
	if s.answered {
		limit = s.relay.limits.assured
	}
	return limit - time.Since(s.last)
}

// fromGuest passes the guest's datagrams on until one fails to come.
func (s *session) fromGuest(from source) error {
	for {
		b, err := from.read()
		if err == nil {
			s.mu.Lock()
			s.last, s.answered = time.Now(), true
			s.mu.Unlock()
			if _, werr := s.relay.socket.WriteToUDPAddrPort(b, s.client); werr != nil {
				s.relay.log.Debug("send to the client", "client", s.client, "err", werr)
			}
		}
		from.release()
		if err != nil {
			return err
		}
	}
}
