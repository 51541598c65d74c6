package sshclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// ErrDisconnected means that the user typed "~." at the beginning of a line.
var ErrDisconnected = errors.New("disconnected")

// Terminal is the user's terminal.
type Terminal struct {
	In, Out *os.File
	Type    string // $TERM; "" is "xterm"
}

// Shell runs a command line, or the login shell when it is "", on a terminal
// of the guest that is connected with the user's. It follows changes of the
// size, and returns the exit status as [Client.Exec] does.
//
// While it runs, all keys go to the guest, Ctrl-C too; "~." after Enter ends
// the connection, which a dead guest may need, and gives [ErrDisconnected].
// However it returns, the terminal is as it was before; so it is, at once,
// when ctx ends.
func (c *Client) Shell(ctx context.Context, command string, t Terminal) (exit int, failed error) {
	session, err := c.session(ctx)
	if err != nil {
		return 0, err
	}
	defer end(session)

	done := make(chan struct{})
	defer close(done)
	changes := sizeChanges(done) // before the first look at the size, so that none is missed
	size := t.size()
	width, height := size()
	modes := ssh.TerminalModes{ssh.ECHO: 1, ssh.IUTF8: 1, ssh.TTY_OP_ISPEED: 38400, ssh.TTY_OP_OSPEED: 38400}
	err = awaitDone(ctx, func() error {
		return session.RequestPty(cmp.Or(t.Type, "xterm"), height, width, modes)
	})
	if err != nil {
		return 0, c.cause(fmt.Errorf("the guest gives no terminal: %w", err))
	}
	go func() {
		for range changes {
			if w, h := size(); w != width || h != height {
				width, height = w, h
				_ = session.WindowChange(h, w) // a broken connection ends the session, too
			}
		}
	}()

	ctx, disconnect := context.WithCancelCause(ctx)
	defer disconnect(nil)
	in := io.Reader(t.In)
	if term.IsTerminal(int(t.In.Fd())) {
		undo, err := makeRaw(t)
		if err != nil {
			return 0, fmt.Errorf("set up the terminal: %w", err)
		}
		restore := sync.OnceValue(undo)
		defer func() { failed = errors.Join(failed, restore()) }()
		stop := context.AfterFunc(ctx, func() { _ = restore() }) // reported by the call above
		defer stop()
		in = &escapes{r: t.In, lineStart: true, disconnect: func() { disconnect(ErrDisconnected) }}
	}
	return c.run(ctx, session, command, Streams{In: in, Out: t.Out, Err: t.Out})
}

// size returns a function that returns columns and lines. It asks the files
// for their descriptors once: doing so later would race with reading.
func (t Terminal) size() func() (width, height int) {
	descriptors := []int{int(t.Out.Fd()), int(t.In.Fd())}
	return func() (int, int) {
		for _, fd := range descriptors {
			if w, h, err := term.GetSize(fd); err == nil && w > 0 && h > 0 {
				return w, h
			}
		}
		return 80, 24
	}
}

// escapes passes on what is typed, except "~." at the beginning of a line.
// "~~" there is one "~", as in OpenSSH's client.
type escapes struct {
	r          io.Reader
	disconnect func()
	lineStart  bool
	tilde      bool   // one was held back
	pending    []byte // for the next Read
}

func (e *escapes) Read(p []byte) (int, error) {
	if len(e.pending) == 0 {
		buf := make([]byte, max(len(p), 1))
		n, err := e.r.Read(buf)
		for _, b := range buf[:n] {
			e.typed(b)
		}
		if err != nil && len(e.pending) == 0 {
			return 0, err
		}
	}
	n := copy(p, e.pending)
	e.pending = e.pending[n:]
	return n, nil
}

func (e *escapes) typed(b byte) {
	if e.tilde {
		e.tilde = false
		switch b {
		case '.':
			e.disconnect()
			return
		case '~':
			e.pending = append(e.pending, '~')
			return
		}
		e.pending = append(e.pending, '~')
	} else if e.lineStart && b == '~' {
		e.lineStart, e.tilde = false, true
		return
	}
	e.pending = append(e.pending, b)
	e.lineStart = b == '\r' || b == '\n'
}
