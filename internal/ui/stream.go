package ui

import (
	"fmt"

	"github.com/hostctl/hostctl/internal/lifecycle"
)

// stream writes events as JSON on Stdout, one object a line.
type stream struct{ ui *UI }

// event writes ev. An event that cannot be written must not keep a machine
// from its next step; when the reader has gone, SIGPIPE ends the program.
func (s *stream) event(ev lifecycle.Event) {
	ev.Message, ev.Error, ev.Hint = clean(ev.Message), clean(ev.Error), clean(ev.Hint)
	_ = writeJSON(s.ui.opt.Stdout, ev, "")
}

func (s *stream) above(text []byte) { fmt.Fprintf(s.ui.opt.Stderr, "%s", text) }

func (s *stream) finish() {}
