package ui

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/hostctl/hostctl/internal/lifecycle"
)

const (
	// frameInterval is the least time between two frames. The first frame
	// waits as long: what is over before shows its end only.
	frameInterval = 100 * time.Millisecond

	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	noWrap     = "\x1b[?7l" // a line that is wider than thought is cut, not broken
	wrap       = "\x1b[?7h"
	clearRight = "\x1b[K"
	clearBelow = "\x1b[J"
)

// live shows a board in the last lines of a terminal. Each frame is one write
// and overwrites the one before in place: nothing flickers. The cursor is hidden
// only within that write, and rests in the first column of the line below: there
// is nothing to restore, whatever ends the program (a second interrupt, a panic
// in a goroutine, SIGKILL) or stops it (SIGTSTP).
type live struct {
	ui      *UI
	palette palette
	board   board
	shown   []row       // the last frame
	last    time.Time   // when it was drawn
	timer   *time.Timer // draws the next one
	due     time.Time   // when it will; zero when it is not running

	nameWidth, stepWidth int // of the columns; they grow only
}

// row is a line of a frame.
type row struct {
	text  string
	width int // in cells, without the colours
}

func newLive(u *UI) *live {
	return &live{ui: u, palette: u.palette(u.opt.Stderr), last: time.Now()}
}

func (l *live) event(ev lifecycle.Event) {
	if ev.Kind == lifecycle.Notice {
		l.above(notice(l.ui, ev))
		return
	}
	now := time.Now()
	l.board.apply(ev, now)
	l.schedule(now, now)
}

// schedule sees to it that a frame is drawn at the given time, or as soon
// after it as frameInterval permits.
func (l *live) schedule(now, at time.Time) {
	if earliest := l.last.Add(frameInterval); at.Before(earliest) {
		at = earliest
	}
	switch {
	case l.timer == nil:
		l.timer = time.AfterFunc(at.Sub(now), l.tick)
	case l.due.IsZero() || at.Before(l.due):
		l.timer.Reset(at.Sub(now))
	default:
		return
	}
	l.due = at
}

func (l *live) tick() {
	l.ui.mu.Lock()
	defer l.ui.mu.Unlock()
	if l.ui.display != l {
		return // finished while the timer fired
	}
	now := time.Now()
	l.due = time.Time{}
	l.draw(now, nil)
	// Without events, only seconds change.
	for _, t := range l.board.tasks {
		if t.state == running {
			l.schedule(now, now.Add(time.Second-now.Sub(t.began)%time.Second))
		}
	}
}

func (l *live) above(text []byte) {
	if l.shown == nil {
		fmt.Fprintf(l.ui.opt.Stderr, "%s", text)
		return
	}
	l.draw(time.Now(), text)
}

func (l *live) finish() {
	if l.timer != nil {
		l.timer.Stop()
	}
	for _, t := range l.board.tasks {
		if t.state == running {
			t.state, t.message, t.bytes = stopped, "not finished", meter{}
		}
	}
	if l.shown == nil && len(l.board.tasks) == 0 {
		return // there were notices only
	}
	width, _ := l.size()
	frame := l.rows(l.board.tasks, time.Now(), width)
	l.write(frame, nil, width)
}

func (l *live) size() (width, height int) {
	width, height, ok := l.ui.opt.Terminal(l.ui.opt.Stderr)
	if !ok || width < 1 || height < 1 {
		return 80, 24 // it was a terminal, and has gone meanwhile
	}
	return width, height
}

// draw writes a frame, below text if there is any.
func (l *live) draw(now time.Time, text []byte) {
	width, height := l.size()
	// A frame as high as the terminal would scroll it.
	room := max(height-1, 1)
	if len(l.board.tasks) > room {
		gone := l.retire(len(l.board.tasks) - room)
		for _, r := range l.rows(gone, now, width) {
			text = append(slices.Clip(text), r.text+"\n"...)
		}
	}
	tasks := l.board.tasks
	more := 0
	if len(tasks) > room {
		more = len(tasks) - room + 1
		tasks = tasks[:room-1]
	}
	frame := l.rows(tasks, now, width)
	if more > 0 {
		s := runewidth.Truncate(fmt.Sprintf("  and %d more", more), width-1, "")
		frame = append(frame, row{l.palette.paint(Faint, s), len(s)})
	}
	l.last = now
	if text == nil && slices.Equal(frame, l.shown) {
		return
	}
	l.write(frame, text, width)
}

// retire takes up to n finished tasks off the board and returns them: they
// have been written for good and scroll away.
func (l *live) retire(n int) []*task {
	var gone []*task
	l.board.tasks = slices.DeleteFunc(l.board.tasks, func(t *task) bool {
		if len(gone) == n || t.state == running {
			return false
		}
		gone = append(gone, t)
		return true
	})
	return gone
}

// write puts a frame in the place of the last one.
func (l *live) write(frame []row, text []byte, width int) {
	var b bytes.Buffer
	b.WriteString(hideCursor)
	// A terminal that became narrower has broken the lines that no longer
	// fit: what was one line is several now.
	up := 0
	for _, r := range l.shown {
		up += max(1, (r.width+width-1)/width)
	}
	b.WriteByte('\r')
	if up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	if len(text) > 0 {
		// Not by clearing the screen beneath first: some terminals keep what
		// is cleared from the top in their history.
		for s := range strings.Lines(string(text)) {
			s = strings.TrimSuffix(s, "\n")
			b.WriteString(s)
			// At the edge of the screen there is nothing to clear but the
			// last character.
			if w := runewidth.StringWidth(clean(s)); w == 0 || w%width != 0 {
				b.WriteString(clearRight)
			}
			b.WriteByte('\n')
		}
	}
	b.WriteString(noWrap)
	for _, r := range frame {
		b.WriteString(r.text + clearRight + "\n")
	}
	b.WriteString(clearBelow + wrap + showCursor)
	l.shown = frame
	fmt.Fprintf(l.ui.opt.Stderr, "%s", b.Bytes())
}

// rows lays out tasks for a terminal of the given width.
func (l *live) rows(tasks []*task, now time.Time, width int) []row {
	for _, t := range tasks {
		if t.machine != "" {
			l.nameWidth = max(l.nameWidth, runewidth.StringWidth(t.machine))
			l.stepWidth = max(l.stepWidth, runewidth.StringWidth(t.label()))
		}
	}
	rows := make([]row, len(tasks))
	for i, t := range tasks {
		rows[i] = l.row(t, now, width)
	}
	return rows
}

var marks = [...]struct {
	text string
	tone Tone
}{
	running: {"·", Strong},
	done:    {"✓", Good},
	failed:  {"✗", Bad},
	stopped: {"-", Faint},
}

// row lays out a task: mark, machine, step, seconds, and in what room is left
// what the step waits for, how far the download is, or why it failed. The last
// column of the terminal stays empty: some break the line after it.
func (l *live) row(t *task, now time.Time, width int) row {
	step := t.label()
	clock := seconds(t.elapsed(now))
	if t.state == done || t.state == failed {
		clock = took(t.took)
	}
	// From the most legible label to the shortest.
	nameWidth, stepWidth := min(l.nameWidth, width/3), min(l.stepWidth, width*2/5)
	var labels []string
	if t.machine == "" {
		labels = []string{fit(step, max(nameWidth+2+stepWidth, runewidth.StringWidth(step))), step}
	} else {
		name := fit(t.machine, nameWidth)
		labels = []string{name + "  " + fit(step, stepWidth), name + "  " + step, name}
	}
	const (
		beside = 2 + 8 + 2 + 1 // mark, seconds, gap, last column
		enough = 12            // for a detail to say something
	)
	// A label that is out of line pays only for news.
	label, room := labels[0], 0
	for i, s := range labels {
		left := width - beside - runewidth.StringWidth(s)
		if left >= enough && (i == 0 || t.state == failed || t.bytes.done > 0) {
			label, room = s, left
			break
		}
	}
	var detail string
	tone := Faint
	if room > 0 {
		if detail = t.bytes.text(now, room); detail != "" {
			tone = Plain
		} else {
			detail = runewidth.Truncate(t.message, room, "…")
		}
		if t.state == failed {
			tone = Bad
		}
	} else if most := max(width-beside+2, 0); runewidth.StringWidth(label) > most {
		label = fit(labels[1], most)
	}

	mark := marks[t.state]
	plain := mark.text + " " + label + fmt.Sprintf("%8s", clock)
	if w := runewidth.StringWidth(plain); w > width-1 {
		plain = runewidth.Truncate(plain, width-1, "")
		return row{plain, runewidth.StringWidth(plain)}
	}
	r := row{
		text:  l.palette.paint(mark.tone, mark.text) + plain[len(mark.text):],
		width: runewidth.StringWidth(plain),
	}
	if detail != "" {
		r.text += "  " + l.palette.paint(tone, detail)
		r.width += 2 + runewidth.StringWidth(detail)
	}
	return r
}

// fit makes s exactly width cells wide.
func fit(s string, width int) string {
	return runewidth.FillRight(runewidth.Truncate(s, width, "…"), width)
}
