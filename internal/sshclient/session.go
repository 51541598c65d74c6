package sshclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hostctl/hostctl/internal/hint"
)

// Streams are a command's standard streams. A nil In is empty; nil writers
// discard.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Exec runs a command line in the login user's shell, without a terminal; ""
// is that shell itself, which then reads In. It returns the exit status: 128+n
// when signal n ended the command, 128 when SSH has no name for the signal. A
// command that could not be started or watched to its end is an error. When
// ctx ends, the command gets SIGTERM and the cause is returned.
//
// When the command ends, a read from In may still be pending.
func (c *Client) Exec(ctx context.Context, command string, s Streams) (exit int, err error) {
	session, err := c.session(ctx)
	if err != nil {
		return 0, err
	}
	defer end(session)
	return c.run(ctx, session, command, s)
}

// ForwardAgent lets sessions that start from now on use the user's SSH agent,
// at socket (SSH_AUTH_SOCK), for as long as they run. The guest's root can use
// it, too: that is why it has to be asked for.
func (c *Client) ForwardAgent(ctx context.Context, socket string) error {
	conn, err := dialAgent(ctx, socket)
	if err != nil {
		return hint.Wrap(fmt.Errorf("forward the SSH agent: %w", short(err)),
			"start one (ssh-agent) and see that SSH_AUTH_SOCK names its socket, or connect without it")
	}
	if err := agent.ForwardToAgent(c.ssh, agent.NewClient(conn)); err != nil {
		return errors.Join(fmt.Errorf("forward the SSH agent: %w", err), conn.Close())
	}
	go func() {
		<-c.closing
		_ = conn.Close() // nothing is written through it any more
	}()
	c.agent.Store(true)
	return nil
}

func (c *Client) session(ctx context.Context) (*ssh.Session, error) {
	session, err := await(ctx, func() (*ssh.Session, error) {
		s, err := c.ssh.NewSession()
		if err == nil && ctx.Err() != nil {
			end(s) // nobody waits for it: sshd gives ten at a time
		}
		return s, err
	})
	if err != nil {
		return nil, c.cause(fmt.Errorf("open a session: %w", err))
	}
	if c.agent.Load() {
		err := awaitDone(ctx, func() error { return agent.RequestAgentForwarding(session) })
		if err != nil {
			end(session)
			return nil, c.cause(fmt.Errorf("the guest does not take the SSH agent: %w", err))
		}
	}
	return session, nil
}

// await calls ask, which waits for the guest, and leaves it behind when ctx
// ends: the guest may be dead.
func await[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		v, err := ask()
		answers <- answer{v, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var zero T
		return zero, context.Cause(ctx)
	}
}

func awaitDone(ctx context.Context, ask func() error) error {
	_, err := await(ctx, func() (struct{}, error) { return struct{}{}, ask() })
	return err
}

// end closes the session without waiting for a guest that may be dead. What
// there is to report of a session was said by its command's status.
func end(session *ssh.Session) {
	go func() { _ = session.Close() }()
}

// run starts the command in the session, "" being the login shell, and sees it
// to its end.
func (c *Client) run(ctx context.Context, session *ssh.Session, command string, s Streams) (int, error) {
	// A write that fails (the reader of our output is gone) must end the
	// session: nobody takes what the command sends, and it would wait for ever.
	unread := make(chan error, 2)
	session.Stdout, session.Stderr = output{s.Out, unread}, output{s.Err, unread}
	// Not session.Stdin: Wait would wait for it, and a terminal's never ends.
	stdin, err := session.StdinPipe()
	if err != nil {
		return 0, err
	}
	start := session.Shell
	if command != "" {
		start = func() error { return session.Start(command) }
	}
	if err := awaitDone(ctx, start); err != nil {
		return 0, c.cause(fmt.Errorf("start the command: %w", err))
	}
	go func() {
		if s.In != nil {
			// It ends with the session, or because the command stopped
			// reading: both show in the exit status.
			_, _ = io.Copy(stdin, s.In)
		}
		_ = stdin.Close() // as above
	}()

	ended := make(chan error, 1)
	go func() { ended <- session.Wait() }()
	select {
	case err = <-ended:
		select {
		case err = <-unread:
			return 0, fmt.Errorf("write the command's output: %w", err)
		default:
			return c.status(err)
		}
	case err = <-unread:
		err = fmt.Errorf("write the command's output: %w", err)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	// A guest that does not answer must not hold us up: writing to it can
	// block, and so can closing.
	go func() { _ = session.Signal(ssh.SIGTERM) }() // servers may ignore it
	grace := time.NewTimer(endGrace)
	defer grace.Stop()
	select {
	case <-ended: //nolint:errcheck // how it ended no longer matters
	case <-grace.C:
	}
	return 0, err
}

// endGrace is how long a command that was told to end may send its last words.
const endGrace = time.Second

// status takes apart what waiting for a command returned.
func (c *Client) status(err error) (int, error) {
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil // 128+n after signal n
	case errors.As(err, &missing):
		return 0, ErrLost
	}
	return 0, c.cause(err)
}

// cause says why a call on the connection failed.
func (c *Client) cause(err error) error {
	var network net.Error
	if c.lost.Load() || errors.Is(err, io.EOF) || errors.As(err, &network) || errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return err
}

// output is a writer, nil to discard, that reports the first failure.
type output struct {
	w      io.Writer
	failed chan<- error
}

func (o output) Write(p []byte) (int, error) {
	if o.w == nil {
		return len(p), nil
	}
	n, err := o.w.Write(p)
	if err != nil {
		o.failed <- err // io.Copy stops here, so there is one for each stream
	}
	return n, err
}
