package sshclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Sessions gives as many sessions in a guest as are asked for, where one
// connection gives some only: sshd's MaxSessions, 10 if it is not told. Further
// ones go over further connections, which stay. Like one connection they are
// lost together: whoever gets [ErrLost] closes all. It is safe for concurrent
// use.
type Sessions struct {
	growing chan struct{} // held while another connection is made

	mu     sync.Mutex
	conns  []*Client // the newest first: the others are likely full
	closed bool
}

// NewSessions takes over a connection that stands.
func NewSessions(c *Client) *Sessions {
	return &Sessions{growing: make(chan struct{}, 1), conns: []*Client{c}}
}

// Exec is like [Client.Exec].
func (s *Sessions) Exec(ctx context.Context, command string, streams Streams) (exit int, err error) {
	c, session, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	defer end(session)
	return c.run(ctx, session, command, streams)
}

// SFTP is like [Client.SFTP].
func (s *Sessions) SFTP(ctx context.Context, sudo bool, options ...sftp.ClientOption) (*sftp.Client, error) {
	c, session, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	return c.sftp(ctx, session, sudo, options)
}

// Close ends all connections. It can be repeated.
func (s *Sessions) Close() error {
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	s.mu.Unlock()
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// open returns a session, and the connection that it is on.
func (s *Sessions) open(ctx context.Context) (*Client, *ssh.Session, error) {
	tried := 0
	for {
		s.mu.Lock()
		conns := s.conns
		s.mu.Unlock()
		for _, c := range conns[:len(conns)-tried] {
			session, err := c.session(ctx)
			if !refused(err) {
				return c, session, err
			}
		}
		tried = len(conns)
		c, session, err := s.grow(ctx, tried)
		if c != nil || err != nil {
			return c, session, err
		}
	}
}

// grow makes another connection and opens a session on it, unless somebody did
// who was faster: there are more than known then.
func (s *Sessions) grow(ctx context.Context, known int) (*Client, *ssh.Session, error) {
	select {
	case s.growing <- struct{}{}:
		defer func() { <-s.growing }()
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	s.mu.Lock()
	conns, closed := s.conns, s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return nil, nil, fmt.Errorf("%w: %w", ErrLost, net.ErrClosed)
	case len(conns) > known:
		return nil, nil, nil
	}
	c, err := Dial(ctx, conns[0].target)
	if err != nil {
		return nil, nil, err
	}
	// Before others can take all that there are.
	session, err := c.session(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, errors.Join(fmt.Errorf("%w: %w", ErrLost, net.ErrClosed), c.Close())
	}
	s.conns = append([]*Client{c}, s.conns...)
	return c, session, nil
}

// refused reports whether the guest gives no session on a connection that
// stands.
func refused(err error) bool {
	_, is := errors.AsType[*ssh.OpenChannelError](err)
	return is
}
