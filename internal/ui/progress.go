package ui

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/mattn/go-runewidth"

	"github.com/hostctl/hostctl/internal/lifecycle"
)

// task is what one line of progress is about: a machine in its current step,
// or a step that several machines share.
type task struct {
	machine string // "" for a shared step
	step    string
	message string
	state   state
	began   time.Time     // of the step
	took    time.Duration // when it is over
	bytes   meter
}

type state int

const (
	running state = iota
	done
	failed
	stopped // cut off: the display ended first
)

// label is the step a machine is in, or that it is done with all.
func (t *task) label() string {
	if t.state == done && t.machine != "" {
		return "done"
	}
	return t.step
}

// board is the state of all tasks: shared steps in the order in which they
// began, then machines by name, so that no line ever changes places with
// another.
type board struct {
	tasks []*task
}

// apply updates the task that ev is about and returns it.
func (b *board) apply(ev lifecycle.Event, now time.Time) *task {
	t := b.task(line(ev.Machine), line(ev.Step), now)
	message := line(ev.Message)
	took := time.Duration(ev.Seconds * float64(time.Second))
	switch ev.Kind {
	case lifecycle.StepStarted:
		*t = task{machine: t.machine, step: line(ev.Step), message: message, began: now}
	case lifecycle.Progress:
		t.message = cmp.Or(message, t.message)
		if ev.Done > 0 || ev.Total > 0 {
			t.bytes.add(now, ev.Done, ev.Total)
		}
	case lifecycle.StepDone:
		t.message, t.took, t.bytes = message, took, meter{}
		if t.machine == "" {
			t.state = done
		}
	case lifecycle.MachineDone:
		t.state, t.message, t.took, t.bytes = done, message, took, meter{}
	case lifecycle.MachineFailed:
		t.step = cmp.Or(line(ev.Step), t.step)
		// The line begins with the machine and the step already.
		first, _, _ := strings.Cut(strings.TrimSpace(clean(ev.Error)), "\n")
		first = strings.TrimPrefix(first, t.machine+": ")
		first = strings.TrimPrefix(first, t.step+": ")
		t.state, t.message, t.took, t.bytes = failed, first, took, meter{}
	}
	return t
}

func (b *board) task(machine, step string, now time.Time) *task {
	for _, t := range b.tasks {
		if t.machine == machine && (machine != "" || t.step == step) {
			return t
		}
	}
	t := &task{machine: machine, step: step, began: now}
	i := len(b.tasks)
	for i > 0 && precedes(t, b.tasks[i-1]) {
		i--
	}
	b.tasks = slices.Insert(b.tasks, i, t)
	return t
}

func precedes(a, b *task) bool {
	if a.machine == "" || b.machine == "" {
		return a.machine == "" && b.machine != ""
	}
	return a.machine < b.machine
}

// elapsed is how long the step has run, or how long the task took.
func (t *task) elapsed(now time.Time) time.Duration {
	if t.state == running || t.state == stopped {
		return now.Sub(t.began)
	}
	return t.took
}

// meter measures a download.
type meter struct {
	done, total int64
	samples     []sample // of the last rateWindow
}

type sample struct {
	at   time.Time
	done int64
}

// rateWindow is long enough for a rate that can be read, and short enough to
// show that a connection has stalled.
const rateWindow = 5 * time.Second

func (m *meter) add(now time.Time, done, total int64) {
	if done < m.done {
		m.samples = nil // started over: the server could not resume
	}
	m.done, m.total = done, total
	// Reports may come for every buffer: ten samples a second are enough.
	if n := len(m.samples); n > 1 && now.Sub(m.samples[n-2].at) < rateWindow/50 {
		m.samples[n-1] = sample{now, done}
	} else {
		m.samples = append(m.samples, sample{now, done})
	}
}

// rate returns bytes per second over the last rateWindow; 0 when unknown.
func (m *meter) rate(now time.Time) float64 {
	// Keep the newest sample from before the window: the window begins
	// somewhere on the way from it to the next.
	for len(m.samples) > 1 && now.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
	if len(m.samples) == 0 {
		return 0
	}
	first, span := m.samples[0], now.Sub(m.samples[0].at)
	if span < time.Second/2 {
		return 0
	}
	return float64(m.done-first.done) / span.Seconds()
}

// text describes the download in at most room cells: the more room, the more
// it says. It is empty when nothing is known or nothing fits.
func (m *meter) text(now time.Time, room int) string {
	if m.done == 0 && m.total == 0 {
		return ""
	}
	var rate, left string
	if r := m.rate(now); r > 0 {
		rate = "  " + size(int64(r)) + "/s"
		if m.total > m.done {
			left = "  " + seconds(time.Duration(math.Ceil(float64(m.total-m.done)/r))*time.Second) + " left"
		}
	}
	if m.total <= 0 {
		return longest(room, size(m.done)+rate, size(m.done))
	}
	share := min(max(float64(m.done)/float64(m.total), 0), 1)
	percent := fmt.Sprintf("%3d%%", int(share*100))
	amount := fmt.Sprintf("%s  %s of %s", percent, size(m.done), size(m.total))
	const cells = 10
	full := int(share * cells)
	bar := strings.Repeat("█", full) + strings.Repeat("░", cells-full) + " "
	return longest(room, bar+amount+rate+left, amount+rate+left, percent+rate+left, percent+rate, percent)
}

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// seconds formats a running time.
func seconds(d time.Duration) string {
	d = d.Truncate(time.Second)
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
}

// took formats the time that something took in the end.
func took(d time.Duration) string {
	if d < 100*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return seconds(d)
}

// longest returns the first of the texts, which get shorter, that fits room.
func longest(room int, texts ...string) string {
	for _, s := range texts {
		if runewidth.StringWidth(s) <= room {
			return s
		}
	}
	return ""
}
