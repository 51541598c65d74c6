package ui_test

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mattn/go-runewidth"

	"github.com/hostctl/hostctl/internal/ui"
)

// screen is a terminal: it obeys the few escape sequences that package ui
// writes, keeps what scrolls off, and fails the test at any other sequence. No
// write may leave it with a hidden cursor.
type screen struct {
	t  testing.TB
	mu sync.Mutex

	width, height int
	lines         []string // from the first that was ever written
	top           int      // the line in the screen's first row
	row, col      int      // of the cursor; row counts from the first line
	hidden        bool
	noWrap        bool
	writes        int
	raw           strings.Builder
}

func newScreen(t testing.TB, width, height int) *screen {
	return &screen{t: t, width: width, height: height, lines: []string{""}}
}

// ui returns a UI on this screen, with environment variables in pairs.
func (s *screen) ui(o ui.Options, env ...string) *ui.UI {
	o.Stderr = s
	if o.Stdout == nil {
		o.Stdout = s
	}
	o.Getenv = environ(env...)
	o.Terminal = s.terminal
	return ui.New(o)
}

func environ(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func (s *screen) terminal(stream any) (width, height int, ok bool) {
	if stream != any(s) {
		_, ok = stream.(keyboard)
		return 80, 24, ok
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.width, s.height, true
}

// keyboard is a terminal's input.
type keyboard struct{ io.Reader }

var sequence = regexp.MustCompile(`^\x1b\[(\??)([0-9;]*)([A-Za-z])`)

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.raw.Write(p)
	for text := string(p); text != ""; {
		if text[0] == '\x1b' {
			m := sequence.FindStringSubmatch(text)
			if m == nil {
				s.t.Errorf("not a sequence: %q", text)
				return len(p), nil
			}
			s.obey(m[1]+m[3], m[2])
			text = text[len(m[0]):]
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		s.put(r)
	}
	// The program may be killed after any write.
	if s.hidden || s.noWrap {
		s.t.Errorf("a write leaves the terminal changed: cursor hidden %v, lines cut %v: %q", s.hidden, s.noWrap, p)
	}
	return len(p), nil
}

func (s *screen) obey(function, parameter string) {
	n, _ := strconv.Atoi(parameter)
	switch function {
	case "A":
		s.row = max(s.row-n, s.top)
	case "K":
		s.lines[s.row] = cut(s.lines[s.row], s.col)
	case "J":
		s.lines[s.row] = cut(s.lines[s.row], s.col)
		s.lines = s.lines[:s.row+1]
	case "?h", "?l":
		switch n {
		case 25:
			s.hidden = function == "?l"
		case 7:
			s.noWrap = function == "?l"
		default:
			s.t.Errorf("unknown mode %d", n)
		}
	case "m":
	default:
		s.t.Errorf("unknown sequence %s %s", function, parameter)
	}
}

func cut(line string, col int) string {
	return strings.TrimRight(runewidth.Truncate(runewidth.FillRight(line, col), col, ""), " ")
}

func (s *screen) put(r rune) {
	switch {
	case r == '\r':
		s.col = 0
	case r == '\n':
		s.col = 0
		s.row++
		if s.row == len(s.lines) {
			s.lines = append(s.lines, "")
		}
		s.top = max(s.top, s.row-s.height+1)
	case r < ' ' || r >= 0x7f && r < 0xa0:
		s.t.Errorf("control character %q on the screen", r)
	default:
		w := runewidth.RuneWidth(r)
		if s.col+w > s.width {
			if s.noWrap {
				return
			}
			s.put('\n')
		}
		left := runewidth.FillRight(runewidth.Truncate(s.lines[s.row], s.col, ""), s.col)
		right := runewidth.TruncateLeft(s.lines[s.row], s.col+w, "")
		s.lines[s.row] = left + string(r) + right
		s.col += w
	}
}

// resize changes the width as most terminals do: lines that no longer fit
// continue in the next row. The cursor is taken to be below them.
func (s *screen) resize(width int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, l := range s.lines {
		lines = append(lines, strings.Split(runewidth.Wrap(l, width), "\n")...)
	}
	s.width, s.lines = width, lines
	s.row = len(lines) - 1
	s.top = max(0, len(lines)-s.height)
}

// String is what can be seen, with a frame around it.
func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frame(s.lines[s.top:])
}

// history is all that was ever written and is still there.
func (s *screen) history() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frame(s.lines)
}

func (s *screen) frame(lines []string) string {
	var b strings.Builder
	edge := "+" + strings.Repeat("-", s.width) + "+\n"
	b.WriteString(edge)
	for _, l := range lines {
		fmt.Fprintf(&b, "|%s|\n", runewidth.FillRight(l, s.width))
	}
	b.WriteString(edge)
	return b.String()
}

func (s *screen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}
