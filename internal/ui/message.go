package ui

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/mitchellh/go-wordwrap"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
)

// Detailer is implemented by errors with evidence that is too long for the
// message, such as the end of a serial log. [UI.Error] shows it beneath the
// message. It may come straight from a guest.
type Detailer interface {
	error
	Detail() string
}

// Error prints err to Stderr, with its details and its hint. Errors that were
// joined with [errors.Join] are printed one by one. A nil err prints nothing.
func (u *UI) Error(err error) {
	if err == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settle()
	m := u.newMessage()
	for _, e := range split(err) {
		m.add("error: ", Bad, e.Error())
		if d := Detailer(nil); errors.As(e, &d) {
			m.quote(d.Detail())
		}
		if h := hint.Of(e); h != "" {
			m.add("  hint: ", Strong, h)
		}
	}
	u.talk([]byte(m.String()))
}

// Notice prints something worth knowing to Stderr.
func (u *UI) Notice(format string, args ...any) {
	u.message("notice: ", Strong, fmt.Sprintf(format, args...))
}

// Warn prints to Stderr what may be a mistake or have bad consequences.
func (u *UI) Warn(format string, args ...any) {
	u.message("warning: ", Caution, fmt.Sprintf(format, args...))
}

func (u *UI) message(label string, tone Tone, text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	m := u.newMessage()
	m.add(label, tone, text)
	u.talk([]byte(m.String()))
}

// split returns the errors that errors.Join put together. Others with several
// causes, such as a timeout and the last attempt's error, are one statement.
func split(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	causes := joined.Unwrap()
	var parts []error
	var text []string
	for _, e := range causes {
		parts = append(parts, split(e)...)
		text = append(text, e.Error())
	}
	if err.Error() != strings.Join(text, "\n") {
		return []error{err}
	}
	return parts
}

// message is text for Stderr that fits its width.
type message struct {
	strings.Builder
	palette palette
	width   int // 0: lines are not broken
}

func (u *UI) newMessage() *message {
	width, _, _ := u.opt.Terminal(u.opt.Stderr)
	return &message{palette: u.palette(u.opt.Stderr), width: width}
}

// add writes text after label; further lines are indented as deep.
func (m *message) add(label string, tone Tone, text string) {
	m.WriteString(m.palette.paint(tone, label))
	indent := strings.Repeat(" ", len(label))
	for i, line := range strings.Split(strings.TrimSpace(clean(text)), "\n") {
		if i > 0 {
			m.WriteString("\n" + indent)
		}
		words := strings.TrimLeft(line, " ")
		own := line[:len(line)-len(words)]
		further := own // what goes on of an entry of a list is deeper than the next
		if own != "" {
			further += "  "
		}
		// In less room, ragged columns would be harder to read than what the
		// terminal makes of long lines.
		if room := m.width - len(label) - len(further); m.width > 0 && room >= 20 {
			// Words are never broken: paths and commands can be copied.
			words = wordwrap.WrapString(words, uint(room))
		}
		m.WriteString(own + strings.ReplaceAll(words, "\n", "\n"+indent+further))
	}
	m.WriteByte('\n')
}

// quote writes text line by line behind a bar.
func (m *message) quote(text string) {
	const bar = "  | "
	for s := range strings.Lines(strings.Trim(clean(text), "\n")) {
		s = strings.TrimRight(s, " \n")
		if room := m.width - len(bar); m.width > 0 && room >= 20 {
			s = runewidth.Wrap(s, room)
		}
		for part := range strings.SplitSeq(s, "\n") {
			m.WriteString(m.palette.paint(Faint, strings.TrimRight(bar+part, " ")))
			m.WriteByte('\n')
		}
	}
}

// notice formats an event of that kind.
func notice(u *UI, ev lifecycle.Event) []byte {
	text := ev.Message
	if ev.Machine != "" {
		text = ev.Machine + ": " + text
	}
	m := u.newMessage()
	m.add("notice: ", Strong, text)
	return []byte(m.String())
}
