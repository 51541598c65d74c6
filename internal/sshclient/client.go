// Package sshclient logs in to guests whose host keys are known beforehand:
// it waits for them, runs commands with the remote exit status, connects
// terminals, and writes configuration for the system's own SSH client.
package sshclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/wait"
)

// Sentinels, matched with errors.Is.
var (
	// ErrAuth means that the guest is the right one and does not take the key.
	ErrAuth = errors.New("the guest refused the key")
	// ErrNoAnswer means that the connection came to nothing, or that something
	// accepted it and said nothing: a hypervisor's forward does so while the guest
	// boots.
	ErrNoAnswer = errors.New("no SSH server answers")
	// ErrLost means that the connection ended before the command did.
	ErrLost = errors.New("the connection to the guest was lost")
)

// HostKeyError means that whoever answered is not the guest. SHA256
// fingerprints; Got is "" when the server has no key of that kind at all.
type HostKeyError struct {
	Addr      netip.AddrPort
	Want, Got string
}

func (e *HostKeyError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("the SSH server is not the guest: it has no host key like %s", e.Want)
	}
	return fmt.Sprintf("the SSH server is not the guest: its host key is %s, not %s", e.Got, e.Want)
}

// Hint says what it can be.
func (e *HostKeyError) Hint() string {
	return fmt.Sprintf("either another program listens on %s, or the guest's host keys were replaced from inside; nothing was sent to it", e.Addr)
}

// Target is a guest to log in to.
type Target struct {
	Addr    netip.AddrPort // on this host: the forward to the guest's port 22
	User    string
	Signer  ssh.Signer
	HostKey ssh.PublicKey // the only one that is accepted
}

// String returns "core@127.0.0.1:2222".
func (t Target) String() string { return t.User + "@" + t.Addr.String() }

// How long the steps of logging in may take. An emulated guest needs seconds
// for the key exchange.
const (
	answerTimeout    = 10 * time.Second // to the first byte of the server's banner, connecting included
	handshakeTimeout = 30 * time.Second // from there to being logged in
)

// How a dead guest is noticed: a request that is not answered in time ends the
// connection. A guest that is being saved or migrated is silent for a while.
const (
	keepAliveInterval = 15 * time.Second
	keepAliveTimeout  = 45 * time.Second
)

// Client is a connection to a guest. It is safe for concurrent use.
type Client struct {
	target  Target
	ssh     *ssh.Client
	agent   atomic.Bool // sessions ask for agent forwarding
	lost    atomic.Bool // closed because the guest was silent
	closing chan struct{}
	close   func() error
}

// Dial logs in once. ctx bounds the login, not the connection.
func Dial(ctx context.Context, t Target) (*Client, error) {
	return dial(ctx, t, answerTimeout)
}

func dial(ctx context.Context, t Target, answer time.Duration) (*Client, error) {
	conn, err := greeted(ctx, t, answer)
	if err != nil {
		return nil, explain(ctx, t, err)
	}
	return login(ctx, conn, t)
}

// Answers returns nil when a server speaks, within the time that [Dial] gives it.
func Answers(ctx context.Context, t Target) error {
	conn, err := greeted(ctx, t, answerTimeout)
	if err != nil {
		return explain(ctx, t, err)
	}
	_ = conn.Close() // it has spoken
	return nil
}

// greeted connects to a server that speaks. A hypervisor that hangs takes the first
// connections all the same, and then lets the system try for two minutes.
func greeted(ctx context.Context, t Target, answer time.Duration) (*listening, error) {
	d := net.Dialer{Deadline: time.Now().Add(answer)}
	conn, err := d.DialContext(ctx, "tcp", t.Addr.String())
	if silent, ok := errors.AsType[net.Error](err); ok && silent.Timeout() && ctx.Err() == nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, short(err))
	}
	if err != nil {
		// "dial tcp 127.0.0.1:2222: connect: connection refused" says the
		// address twice.
		var errno syscall.Errno
		if errors.As(err, &errno) && ctx.Err() == nil {
			err = errno
		}
		return nil, err
	}
	return greet(ctx, conn, d.Deadline)
}

// greet takes over conn.
func greet(ctx context.Context, conn net.Conn, until time.Time) (*listening, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // wakes the read below
	defer stop()
	c := &listening{Conn: conn, r: bufio.NewReader(conn)}
	err := conn.SetDeadline(until)
	if err == nil {
		_, err = c.r.Peek(1) // an SSH server speaks first, RFC 4253 section 4.2
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrNoAnswer, short(err)), closed(conn))
	}
	return c, nil
}

// login takes over conn.
func login(ctx context.Context, conn *listening, t Target) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // wakes the reads and writes below
	defer stop()

	err := conn.SetDeadline(time.Now().Add(handshakeTimeout))
	if err != nil {
		return nil, explain(ctx, t, errors.Join(err, closed(conn)))
	}
	sc, channels, requests, err := ssh.NewClientConn(conn, t.Addr.String(), config(t, conn.failure))
	if err != nil {
		var negotiation *ssh.AlgorithmNegotiationError
		switch {
		case errors.As(err, &negotiation) && negotiation.What == "host key":
			err = &HostKeyError{Addr: t.Addr, Want: ssh.FingerprintSHA256(t.HostKey)}
		case errors.Is(err, ErrAuth):
			err = hint.Wrap(ErrAuth, "the key of this project was not put into the guest, or was removed inside it: see /home/%s/.ssh in the guest, or destroy the machine and make it again", t.User)
		}
		var key *HostKeyError
		if errors.As(err, &key) {
			err = key // without the library's "handshake failed"
		}
		return nil, explain(ctx, t, errors.Join(err, closed(conn)))
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, explain(ctx, t, errors.Join(err, closed(conn)))
	}
	client := &Client{target: t, ssh: ssh.NewClient(sc, channels, requests), closing: make(chan struct{})}
	client.close = sync.OnceValue(func() error {
		close(client.closing)
		return closed(client.ssh)
	})
	go client.keepAlive()
	return client, nil
}

// config asks broken why the connection broke, if it did: the library takes
// that for a refusal when it comes during authentication.
func config(t Target, broken func() error) *ssh.ClientConfig {
	return &ssh.ClientConfig{
		User: t.User,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(t.Signer)},
		AuthCallback: func(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
			if err := broken(); err != nil {
				return nil, short(err)
			}
			if slices.Contains(c.TriedMethods, "publickey") || !slices.Contains(c.AllowedMethods, "publickey") {
				return nil, ErrAuth
			}
			return nil, nil
		},
		HostKeyAlgorithms: []string{t.HostKey.Type()},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if !bytes.Equal(key.Marshal(), t.HostKey.Marshal()) {
				return &HostKeyError{t.Addr, ssh.FingerprintSHA256(t.HostKey), ssh.FingerprintSHA256(key)}
			}
			return nil
		},
		ClientVersion: "SSH-2.0-hostctl",
	}
}

// Close ends the connection and everything that runs on it. It can be
// repeated.
func (c *Client) Close() error { return c.close() }

// AwaitEnd returns when the connection has ended, whoever ended it.
func (c *Client) AwaitEnd() { _ = c.ssh.Wait() } // why it ended is for those who use it

func (c *Client) keepAlive() {
	tick := time.NewTicker(keepAliveInterval)
	defer tick.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-tick.C:
		}
		answered := make(chan error, 1)
		go func() {
			_, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		}()
		silent := time.NewTimer(keepAliveTimeout)
		select {
		case <-c.closing:
		case err := <-answered:
			silent.Stop()
			if err == nil {
				continue
			}
		case <-silent.C:
			c.lost.Store(true)
			_ = c.Close() // whoever uses the connection gets ErrLost
		}
		silent.Stop()
		return
	}
}

// Wait logs in, and tries until it can or ctx ends. While the guest boots,
// refused, silent and broken connections are normal. Another host key is not
// waited for, nor a key that the guest goes on refusing for half a minute.
func Wait(ctx context.Context, t Target) error {
	return waitFor(ctx, func(ctx context.Context, answer time.Duration) error {
		c, err := dial(ctx, t, answer)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// Connect waits like [Wait] and keeps the connection. ctx bounds the waiting.
// It loses no time on connections that were made before the guest could hear
// them, at the price of several at once.
func Connect(ctx context.Context, t Target) (*Client, error) {
	var client *Client
	err := waitFor(ctx, func(ctx context.Context, _ time.Duration) error {
		conn, err := firstGreeted(ctx, t)
		if err != nil {
			return explain(ctx, t, err)
		}
		client, err = login(ctx, conn, t)
		return err
	})
	return client, err
}

const (
	// hedgeInterval is how soon another connection is made beside those on
	// which nobody speaks yet.
	hedgeInterval = time.Second
	// maxHedged keeps clear of sshd's MaxStartups, which is 10, and of what a
	// slow guest can answer at once: every connection costs it a process.
	maxHedged = 3
)

// firstGreeted makes connections until a server speaks on one of them, or all
// have failed.
func firstGreeted(ctx context.Context, t Target) (*listening, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn *listening
		err  error
	}
	results := make(chan result)
	attempt := func() {
		conn, err := greeted(ctx, t, answerTimeout)
		select {
		case results <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				_ = conn.Close() // another was faster
			}
		}
	}
	go attempt()
	tick := time.NewTicker(hedgeInterval)
	defer tick.Stop()
	for pending := 1; ; {
		select {
		case got := <-results:
			pending--
			if got.err == nil || pending == 0 {
				return got.conn, got.err
			}
		case <-tick.C:
			if pending < maxHedged {
				pending++
				go attempt()
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func waitFor(ctx context.Context, try func(ctx context.Context, answer time.Duration) error) error {
	answer := firstAnswer
	var refused time.Time
	return wait.Until(ctx, waitInterval, func(ctx context.Context) error {
		err := try(ctx, answer)
		var key *HostKeyError
		switch {
		case errors.As(err, &key):
			return wait.Permanent(err)
		case errors.Is(err, ErrAuth) && refused.IsZero():
			refused = time.Now()
		case errors.Is(err, ErrAuth) && time.Since(refused) > authGrace:
			return wait.Permanent(err)
		case errors.Is(err, ErrNoAnswer):
			answer = min(answer*3/2, answerTimeout)
		}
		return err
	})
}

const (
	waitInterval = 200 * time.Millisecond
	// firstAnswer is how long Wait first listens for a server. A forward holds
	// on to a connection made before the guest could take it, and a fresh one
	// gets through sooner; but a busy guest must have its chance, so the time
	// grows with each attempt.
	firstAnswer = time.Second
	// authGrace is how long a guest may refuse the key: sshd does until
	// systemd-user-sessions lets users in.
	authGrace = 30 * time.Second
)

// explain adds the target, and puts the end of ctx before what it caused.
func explain(ctx context.Context, t Target, err error) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done() // the network's timer was a moment faster
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("ssh %s: %w", t, err)
}

// short reduces network errors to their cause: their addresses are known.
func short(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// closed closes c; that it is closed already is no error.
func closed(c io.Closer) error {
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// listening is a connection that remembers why reading from it failed.
type listening struct {
	net.Conn
	r *bufio.Reader

	mu  sync.Mutex
	err error
}

func (c *listening) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil {
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
	}
	return n, err
}

func (c *listening) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
