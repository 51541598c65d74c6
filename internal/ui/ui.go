// Package ui is everything a user sees. It is the only package that knows
// about terminals.
//
// The rules:
//
//   - Standard output is data: tables, JSON, the event stream of --output json.
//     Standard error is talk: progress, notices, warnings, errors, questions.
//     What a command prints to standard output survives eval, whatever is said
//     meanwhile.
//   - Messages are lower case without a full stop and begin with what they are:
//     "error: ", "hint: ", "warning: ", "notice: ". Only the first of these
//     carries facts about a failure; advice is in the hint.
//   - A question ends in a question mark and says in capitals what Enter means.
//   - Colour only helps: no meaning is lost without it. It is off with
//     --no-color, a non-empty NO_COLOR (https://no-color.org), TERM=dumb, and
//     for each stream that is no terminal. Nothing turns it on: CLICOLOR_FORCE
//     would put escape sequences into files.
//   - Columns are parted by two spaces, not by lines, so that a table reads the
//     same in a terminal and in a pipe.
//   - Text from elsewhere (guests, tools, servers) is stripped of escape
//     sequences and control characters before it is shown.
//   - Progress is live on a terminal, and plain lines in a file or a pipe.
package ui

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/hostctl/hostctl/internal/lifecycle"
)

// Options are what a [UI] is made of.
type Options struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	NoColor        bool // --no-color
	JSON           bool // --output json: events go to Stdout as JSON, one a line

	// Getenv reads NO_COLOR and TERM; nil means [os.Getenv].
	Getenv func(string) string
	// Terminal returns the size in cells of the terminal behind one of the
	// streams; ok is false when there is none. It is called when something is
	// shown, not before. nil asks the operating system.
	Terminal func(stream any) (width, height int, ok bool)
}

// UI talks to the user. It is safe for concurrent use.
type UI struct {
	opt Options

	mu      sync.Mutex
	display display // what shows progress now; nil when nothing is under way
	closed  bool
}

// display shows events. Its methods are called with the UI's lock held.
type display interface {
	event(lifecycle.Event)
	// above writes text so that it stays, and what is live follows it.
	above(text []byte)
	// finish leaves the last state on the screen, to be followed by output.
	finish()
}

// New returns a UI. It touches neither streams nor environment: a command that
// says nothing pays nothing.
func New(o Options) *UI {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Terminal == nil {
		o.Terminal = terminal
	}
	return &UI{opt: o}
}

// Close shows the final state of what was under way. Events that come later are
// dropped. It may be called more than once. A program that ends without it, by
// a panic or a signal, leaves the last frame and a terminal in order.
func (u *UI) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settle()
	u.closed = true
}

// settle ends the live display, so that output can follow it.
func (u *UI) settle() {
	if u.display != nil {
		u.display.finish()
		u.display = nil
	}
}

// Reporter shows the events it gets: as a live display when Stderr is a
// terminal, as plain lines when not, and as JSON on Stdout with
// [Options.JSON]. The display ends with [UI.Close], and with whatever else is
// printed to stay: [UI.Table], [UI.JSON], [UI.Error] and [UI.Confirm].
func (u *UI) Reporter() lifecycle.Reporter { return reporter{u} }

type reporter struct{ *UI }

func (r reporter) Report(ev lifecycle.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	if r.display == nil {
		r.display = r.newDisplay()
	}
	r.display.event(ev)
}

func (u *UI) newDisplay() display {
	switch {
	case u.opt.JSON:
		return &stream{ui: u}
	case u.escapes(u.opt.Stderr):
		return newLive(u)
	default:
		return newPlain(u)
	}
}

// Log returns a writer to Stderr for complete lines, such as those of a
// [log/slog.TextHandler]. They appear above the live display.
func (u *UI) Log() io.Writer { return logWriter{u} }

type logWriter struct{ *UI }

func (l logWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.talk(p)
	return len(p), nil
}

// talk writes to Stderr, above the live display if there is one. A failed
// write is dropped: there is nowhere left to tell.
func (u *UI) talk(text []byte) {
	if u.display != nil {
		u.display.above(text)
		return
	}
	fmt.Fprintf(u.opt.Stderr, "%s", text)
}

// IsTerminal reports whether a stream, such as Stdin, is a terminal.
func (u *UI) IsTerminal(stream any) bool {
	_, _, ok := u.opt.Terminal(stream)
	return ok
}

// escapes reports whether stream is a terminal that moves its cursor.
func (u *UI) escapes(stream any) bool {
	return u.IsTerminal(stream) && u.opt.Getenv("TERM") != "dumb"
}

// palette returns the colours for stream.
func (u *UI) palette(stream any) palette {
	return palette(!u.opt.NoColor && u.opt.Getenv("NO_COLOR") == "" && u.escapes(stream))
}
