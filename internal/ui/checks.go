package ui

import (
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/mitchellh/go-wordwrap"
)

// Mark says at a glance how a check went.
type Mark int

// Marks.
const (
	Fine     Mark = iota
	Aside         // worth knowing, neither good nor bad
	Doubtful      // may be a mistake or have bad consequences
	Wrong
)

var checkMarks = [...]struct {
	text string
	tone Tone
}{
	Fine:     {"✓", Good},
	Aside:    {"-", Faint},
	Doubtful: {"!", Caution},
	Wrong:    {"✗", Bad},
}

// CheckLine is what one check found out.
type CheckLine struct {
	Mark   Mark
	Name   string
	Detail string
	Advice string // "": none
}

// Checks prints the lines to Stdout: mark, name, detail, and below it the
// advice. On a terminal, details are broken between words.
func (u *UI) Checks(lines []CheckLine) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settle()
	width, _, _ := u.opt.Terminal(u.opt.Stdout)
	p := u.palette(u.opt.Stdout)
	names := 0
	for _, l := range lines {
		names = max(names, runewidth.StringWidth(line(l.Name)))
	}
	var b strings.Builder
	for _, l := range lines {
		mark := checkMarks[l.Mark]
		b.WriteString(p.paint(mark.tone, mark.text) + " " + fit(line(l.Name), names))
		beside(&b, width, 2+names, line(l.Detail))
		if l.Advice != "" {
			b.WriteString("  " + strings.Repeat(" ", names))
			beside(&b, width, 2+names, "→ "+line(l.Advice))
		}
	}
	_, err := io.WriteString(u.opt.Stdout, b.String())
	return err
}

// beside writes text two cells to the right of what stands before it, which is
// taken cells wide, and further lines below it.
func beside(b *strings.Builder, width, taken int, text string) {
	// In less room, ragged columns would be harder to read than what the
	// terminal makes of long lines.
	if room := width - taken - 2; width > 0 && room >= 20 {
		text = wordwrap.WrapString(text, uint(room))
	}
	indent := strings.Repeat(" ", taken+2)
	b.WriteString("  " + strings.ReplaceAll(text, "\n", "\n"+indent) + "\n")
}
