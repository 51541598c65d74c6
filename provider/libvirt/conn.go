package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/wait"
)

const (
	// dialTimeout bounds one attempt to connect.
	dialTimeout = 20 * time.Second
	// answerTimeout bounds one call. Starting a guest takes libvirtd a second, on
	// a busy machine ten.
	answerTimeout = 90 * time.Second
	// comeBack is how long a libvirtd that was there a moment ago may take to be
	// there again: its restart takes less than a second.
	comeBack = 10 * time.Second
	// silentCalls is how many calls in a row may run into their limit of time
	// before the connection counts as dead.
	silentCalls = 2
	redial      = 50 * time.Millisecond
)

// connection is the way to one libvirtd. It is opened when it is first needed
// and again when it was lost.
type connection struct {
	target target
	log    *slog.Logger

	// turn holds a token while somebody dials.
	turn chan struct{}
	mu   sync.Mutex
	open *link // nil: not connected
	ever bool  // was connected once
}

// link is one connection while it lasts.
type link struct {
	*rpc.Libvirt
	line       line
	unanswered atomic.Int32 // calls in a row
}

func newConnection(t target, log *slog.Logger) *connection {
	return &connection{target: t, log: log, turn: make(chan struct{}, 1)}
}

// call makes one call to libvirtd and returns its answer, or the end of ctx. A
// connection that proves dead is opened again and the call repeated, once: it
// may be carried out twice.
func call[T any](ctx context.Context, c *connection, f func(*rpc.Libvirt) (T, error)) (T, error) {
	var zero T
	for attempt := 0; ; attempt++ {
		s, err := c.link(ctx)
		if err != nil {
			return zero, err
		}
		answer, err := within(ctx, func() (T, error) { return f(s.Libvirt) })
		if err == nil {
			s.unanswered.Store(0)
			return answer, nil
		}
		if !broken(err) {
			if errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded) {
				// A host that is gone without a word leaves a connection that TCP
				// gives up after a quarter of an hour.
				if s.unanswered.Add(1) >= silentCalls {
					c.drop(s)
				}
			}
			return zero, err
		}
		c.drop(s)
		if ctx.Err() != nil {
			return zero, context.Cause(ctx)
		}
		if attempt > 0 {
			return zero, fmt.Errorf("the connection to libvirt was lost: %w", err)
		}
		c.log.InfoContext(ctx, "libvirt connection lost", "uri", c.target.uri, "error", err)
	}
}

// do is call for those without an answer.
func do(ctx context.Context, c *connection, f func(*rpc.Libvirt) error) error {
	_, err := call(ctx, c, func(l *rpc.Libvirt) (struct{}, error) { return struct{}{}, f(l) })
	return err
}

// within waits for f, which cannot be cut off, as long as ctx lets it.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		answer T
		err    error
	}
	var zero T
	if ctx.Err() != nil {
		return zero, context.Cause(ctx)
	}
	done := make(chan result, 1)
	go func() {
		answer, err := f()
		done <- result{answer, err}
	}()
	timeout := time.NewTimer(answerTimeout)
	defer timeout.Stop()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	case <-timeout.C:
		return zero, hint.Wrap(fmt.Errorf("%w for %s", errSilent, answerTimeout), "restart it: sudo systemctl restart libvirtd")
	}
}

var errSilent = errors.New("libvirtd has not answered")

// broken says that an error is the connection's, not libvirt's.
func broken(err error) bool {
	if _, ok := errors.AsType[rpc.Error](err); ok {
		return false
	}
	_, isNet := errors.AsType[*net.OpError](err)
	return isNet || errors.Is(err, rpc.ErrInterrupted) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed)
}

// link returns the open connection, or opens one.
func (c *connection) link(ctx context.Context) (*link, error) {
	if s := c.current(); s != nil {
		return s, nil
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if s := c.current(); s != nil {
		return s, nil
	}
	s, err := c.connect(ctx)
	if err != nil && c.ever && ctx.Err() == nil {
		again, cancel := context.WithTimeout(ctx, comeBack)
		defer cancel()
		err = wait.Until(again, redial, func(ctx context.Context) error {
			s, err = c.connect(ctx)
			return err
		})
		if timeout, ok := errors.AsType[*wait.Error](err); ok {
			err = timeout.Last // says it all
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("connect to %s: %w", c.target.uri, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open, c.ever = s, true
	return s, nil
}

func (c *connection) current() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// drop forgets a dead connection.
func (c *connection) drop(s *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == s {
		c.open = nil
	}
	_ = s.line.Close() // it is dead
}

// connect opens one and greets libvirtd.
func (c *connection) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	way, err := c.target.dial(ctx)
	if err != nil {
		return nil, err
	}
	s := &link{Libvirt: rpc.NewWithDialer(dialers.NewAlreadyConnected(newInOrder(way))), line: way}
	if _, err := within(ctx, func() (struct{}, error) {
		return struct{}{}, s.ConnectToURI(rpc.ConnectURI(c.target.driver))
	}); err != nil {
		_ = way.Close() // the error says more
		if code(err) == rpc.ErrAuthFailed || code(err) == rpc.ErrAuthUnavailable || code(err) == rpc.ErrAuthCancelled {
			err = hint.Wrap(err, "run 'sudo usermod -aG libvirt $USER' on libvirt's host and log in again; SASL is not supported")
		}
		return nil, err
	}
	return s, nil
}

// throughSSH is the SSH connection that libvirtd is reached by, or nil.
func (c *connection) throughSSH(ctx context.Context) (*ssh.Client, error) {
	s, err := c.link(ctx)
	if err != nil {
		return nil, err
	}
	return s.line.ssh, nil
}

// code returns what libvirt calls the error, or 0 when it is not libvirt's.
func code(err error) rpc.ErrorNumber {
	e, ok := errors.AsType[rpc.Error](err)
	if !ok {
		return 0
	}
	return rpc.ErrorNumber(e.Code)
}
