package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/lifecycle"
)

const (
	// announceAfter is how long a step runs before its beginning is told:
	// most are over sooner, and one line is enough for them.
	announceAfter = time.Second
	// repeatAfter is the least time between two lines about what a step
	// waits for.
	repeatAfter = 15 * time.Second
	// aliveAfter is when a step of which there is nothing new is told again: a
	// log that stands still for minutes looks as if all hung.
	aliveAfter = 30 * time.Second
)

// plain writes progress as lines for logs and pipes.
type plain struct {
	ui    *UI
	board board
	told  map[*task]telling
	timer *time.Timer // tells what has become due
}

// telling is what was last told of a task's step.
type telling struct {
	at   time.Time // zero: nothing yet
	text string
}

func newPlain(u *UI) *plain {
	return &plain{ui: u, told: make(map[*task]telling)}
}

func (p *plain) event(ev lifecycle.Event) {
	if ev.Kind == lifecycle.Notice {
		p.above(notice(p.ui, ev))
		return
	}
	now := time.Now()
	t := p.board.apply(ev, now)
	switch ev.Kind {
	case lifecycle.StepStarted:
		p.told[t] = telling{}
	case lifecycle.StepDone:
		p.say(t, "%s … done in %s%s", t.step, took(t.took), after(t.message))
		delete(p.told, t)
	case lifecycle.MachineDone:
		p.say(t, "done in %s%s", took(t.took), after(t.message))
		delete(p.told, t)
	case lifecycle.MachineFailed:
		// Why is for [UI.Error] to say, in full and with advice, at the end.
		p.say(t, "failed after %s%s", took(t.took), after(t.step))
		delete(p.told, t)
	}
	p.schedule()
}

// schedule starts the timer unless there is nothing to tell.
func (p *plain) schedule() {
	switch {
	case len(p.told) == 0:
	case p.timer == nil:
		p.timer = time.AfterFunc(announceAfter, p.tick)
	}
}

func (p *plain) tick() {
	p.ui.mu.Lock()
	defer p.ui.mu.Unlock()
	if p.ui.display != p {
		return // finished while the timer fired
	}
	p.timer = nil
	now := time.Now()
	for _, t := range p.board.tasks { // in the board's order, not the map's
		if last, active := p.told[t]; active {
			p.tell(t, last, now)
		}
	}
	p.schedule()
}

// tell says what t waits for, if it is time: sooner when there is something new.
func (p *plain) tell(t *task, last telling, now time.Time) {
	text := t.bytes.text(now, 45) // too little for the bar, which is no use in a log
	if text == "" {
		text = t.message
	}
	first := last.at.IsZero()
	if first && now.Sub(t.began) < announceAfter {
		return
	}
	patience := repeatAfter
	if text == last.text {
		patience = aliveAfter
	}
	if !first && now.Sub(last.at) < patience {
		return
	}
	p.told[t] = telling{now, text}
	p.say(t, "%s … %s%s", t.step, seconds(now.Sub(t.began)), after(text))
}

// say writes a line about t.
func (p *plain) say(t *task, format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if t.machine != "" {
		s = t.machine + ": " + s
	}
	p.above([]byte(s + "\n"))
}

func after(message string) string {
	if message == "" {
		return ""
	}
	return ": " + strings.TrimSpace(message)
}

func (p *plain) above(text []byte) { fmt.Fprintf(p.ui.opt.Stderr, "%s", text) }

func (p *plain) finish() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
