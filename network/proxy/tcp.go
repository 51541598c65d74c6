package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// keepAlive finds out after some four minutes that a peer has gone without a
// word. Ten thousand idle connections cost 170 probes a second.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 20 * time.Second, Count: 9}

// tcpRelay is a tcp forward in force.
type tcpRelay struct {
	dial   Dial
	log    *slog.Logger
	limits limits
	tasks  *sync.WaitGroup
	lot    *lot
	convoy *convoy
	gone   chan struct{} // has an element when a connection has ended lately

	mu    sync.Mutex
	pairs map[*pair]struct{} // under way
}

func newTCPRelay(dial Dial, log *slog.Logger, lim limits, tasks *sync.WaitGroup) (*tcpRelay, error) {
	lot, err := newLot(tasks)
	if err != nil {
		return nil, err
	}
	return &tcpRelay{
		dial: dial, log: log, limits: lim, tasks: tasks, lot: lot, convoy: &convoy{tasks: tasks},
		gone: make(chan struct{}, 1), pairs: make(map[*pair]struct{}),
	}, nil
}

// accept takes clients until ctx ends and the listener is closed, and ends
// their connections then. Those for whom the guest is being dialled hold a slot:
// were all of them taken at once, they could use up the file descriptors that
// their own connections to the guest need.
func (r *tcpRelay) accept(ctx context.Context, l net.Listener) {
	r.tasks.Go(r.lot.watch)
	defer r.lot.close()
	defer r.resetAll()
	slots, slow := make(chan struct{}, r.limits.dialing), make(chan struct{}, r.limits.slow)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		client, err := l.Accept()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return
			}
			// A client that gave up before it was accepted, or no resources.
			r.log.Debug("accept", "err", err)
			r.pause(ctx)
			continue
		}
		r.tasks.Go(func() {
			give := patient(r.limits.patience, slots, slow)
			guest, err := r.connect(ctx)
			give()
			if err != nil {
				r.log.Debug("connect to the guest", "client", client.RemoteAddr(), "err", err)
				reset(client)
				return
			}
			r.join(ctx, client, guest)
		})
	}
}

// patient lets a client whose dial takes longer than d change from a slot to a
// slow one, if one is free, so that a guest that does not answer some does not
// keep others waiting. give gives back what the client holds then.
func patient(d time.Duration, slots, slow chan struct{}) (give func()) {
	var (
		mu   sync.Mutex
		held = slots
		done bool
	)
	timer := time.AfterFunc(d, func() {
		mu.Lock()
		defer mu.Unlock()
		if done {
			return
		}
		select {
		case slow <- struct{}{}:
			<-held
			held = slow
		default:
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		done = true
		<-held
	}
}

// connect dials the guest. When the process is out of file descriptors it
// waits for some.
func (r *tcpRelay) connect(ctx context.Context) (net.Conn, error) {
	for {
		guest, err := r.dialOnce(ctx)
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) || ctx.Err() != nil {
			return guest, err
		}
		r.pause(ctx)
	}
}

func (r *tcpRelay) dialOnce(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limits.dial)
	defer cancel()
	guest, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	if t, ok := guest.(*net.TCPConn); ok {
		if err := t.SetKeepAliveConfig(keepAlive); err != nil {
			guest.Close()
			return nil, err
		}
	}
	return guest, nil
}

// pause waits until a connection has ended, which frees what it held, or for a
// moment: other listeners' connections end, too.
func (r *tcpRelay) pause(ctx context.Context) {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-r.gone:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// resetAll ends the connections under way. ctx has ended: no more are joined.
func (r *tcpRelay) resetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		p.reset()
	}
}

// pair is a client's connection and the one to the guest that serves it.
type pair struct {
	relay         *tcpRelay
	client, guest net.Conn
	directions    [2]direction
	over          atomic.Int32 // directions that have ended
	broken        bool         // lot.mu guards it
}

// join carries both directions, at first from the lot: new goroutines carry
// them when something comes, as the stack of one that has dialled stays large.
func (r *tcpRelay) join(ctx context.Context, client, guest net.Conn) {
	p := &pair{relay: r, client: client, guest: guest}
	p.directions = [2]direction{{pair: p, dst: guest, src: client}, {pair: p, dst: client, src: guest}}
	for i := range p.directions {
		d := &p.directions[i]
		var err error
		if d.from, err = newSource(d.src, false); err != nil { // it has ended already
			p.reset()
			return
		}
		d.parks, d.to = r.lot.takes(d.from), r.convoy.takes(d)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		p.reset()
		return
	}
	r.pairs[p] = struct{}{}
	for i := range p.directions {
		d := &p.directions[i]
		if !d.parks || !r.lot.park(d) {
			r.tasks.Go(d.carry)
		}
	}
}

// end is called when both directions have ended.
func (p *pair) end() {
	p.client.Close()
	p.guest.Close()
	p.relay.mu.Lock()
	delete(p.relay.pairs, p)
	p.relay.mu.Unlock()
	select {
	case p.relay.gone <- struct{}{}:
	default:
	}
}

// reset breaks off both connections.
func (p *pair) reset() {
	p.relay.lot.wake(p)
	reset(p.client)
	reset(p.guest)
}

// closeWrite ends the direction towards c. Where that cannot be done by itself
// the connection ends.
func closeWrite(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.Close()
}

// reset closes c so that the other side sees an error, not an orderly end.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // fails when it is closed already
	}
	c.Close()
}
