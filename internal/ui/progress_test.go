package ui_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostctl/hostctl/internal/golden"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/ui"
)

// scene is an up of three machines that a reporter is told. At each pause it
// calls look.
func scene(r lifecycle.Reporter, look func()) {
	pause := func(d time.Duration) {
		time.Sleep(d) // the bubble's time, not ours
		look()
	}
	tell := func(kind lifecycle.EventKind, machine, step, message string, s float64) {
		r.Report(lifecycle.Event{Time: time.Now(), Kind: kind, Machine: machine, Step: step, Message: message, Seconds: s})
	}
	tell(lifecycle.StepStarted, "", "check host", "", 0)
	tell(lifecycle.Notice, "", "", "this host has no hardware virtualisation: guests run emulated", 0)
	// Uneven times: no event at the very moment of a frame.
	time.Sleep(40 * time.Millisecond)
	tell(lifecycle.StepDone, "", "check host", "", 0.04)
	tell(lifecycle.StepStarted, "", "fetch image", "", 0)
	for n := range int64(30) {
		r.Report(lifecycle.Event{Time: time.Now(), Kind: lifecycle.Progress, Step: "fetch image", Done: n * 10e6, Total: 480e6})
		time.Sleep(100 * time.Millisecond)
	}
	look()
	tell(lifecycle.StepDone, "", "fetch image", "flatcar stable 4230.2.1", 4.8)
	for _, name := range []string{"core-02", "core-03", "core-01"} {
		tell(lifecycle.StepStarted, name, "wait for SSH", "127.0.0.1:2222", 0)
	}
	pause(1500 * time.Millisecond)
	tell(lifecycle.Progress, "core-02", "wait for SSH", "127.0.0.1:2222: connection refused", 0)
	tell(lifecycle.StepDone, "core-01", "wait for SSH", "", 2.5)
	tell(lifecycle.StepStarted, "core-01", "wait for Docker", "tcp://127.0.0.1:2375", 0)
	pause(20300 * time.Millisecond)
	tell(lifecycle.StepDone, "core-01", "wait for Docker", "", 20.3)
	tell(lifecycle.MachineDone, "core-01", "", "tcp://127.0.0.1:2375", 22.8)
	r.Report(lifecycle.Event{Kind: lifecycle.MachineFailed, Machine: "core-02", Step: "wait for SSH", Seconds: 123,
		Error: "core-02: wait for SSH: timed out after 2m0s: \x1b[31mconnection refused\x1b[0m\nand more"})
	pause(time.Second)
}

func TestLive(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{80, 24}, {40, 24}, {24, 24}, {120, 5}} {
		name := fmt.Sprintf("live_%dx%d", size[0], size[1])
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScreen(t, size[0], size[1])
				u := s.ui(ui.Options{})
				var b strings.Builder
				start := time.Now()
				scene(u.Reporter(), func() {
					synctest.Wait()
					fmt.Fprintf(&b, "%s\n%s", time.Since(start), s)
				})
				u.Close()
				fmt.Fprintf(&b, "closed\n%s", s.history())
				golden.Equal(t, name+".golden", b.String())
			})
		})
	}
}

func TestLiveColours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 80, 24)
		u := s.ui(ui.Options{})
		scene(u.Reporter(), synctest.Wait)
		s.raw.Reset()
		u.Close()
		golden.Equal(t, "live_colours.golden", fmt.Sprintf("%q\n", s.raw.String()))

		plain := newScreen(t, 80, 24)
		u = plain.ui(ui.Options{NoColor: true})
		scene(u.Reporter(), synctest.Wait)
		u.Close()
		if regexp.MustCompile(`\x1b\[[0-9]+m`).MatchString(plain.raw.String()) {
			t.Errorf("coloured: %q", plain.raw.String())
		}
		if plain.history() != s.history() {
			t.Error("colours change the text")
		}
	})
}

// More machines than rows: what is over scrolls away, the rest is counted,
// and in the end every machine is there once.
func TestLiveOverflow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 60, 6)
		u := s.ui(ui.Options{})
		r := u.Reporter()
		const machines = 12
		for i := range machines {
			r.Report(lifecycle.Event{Kind: lifecycle.StepStarted, Machine: fmt.Sprintf("core-%02d", i+1), Step: "boot"})
		}
		var b strings.Builder
		for i := range machines {
			time.Sleep(time.Second)
			r.Report(lifecycle.Event{Kind: lifecycle.MachineDone, Machine: fmt.Sprintf("core-%02d", machines-i), Seconds: float64(i + 1)})
			time.Sleep(150 * time.Millisecond)
			synctest.Wait()
			if i%4 == 0 {
				b.WriteString(s.String())
			}
		}
		u.Close()
		b.WriteString("closed\n" + s.history())
		golden.Equal(t, "live_overflow.golden", b.String())
	})
}

func TestLiveResize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 100, 12)
		u := s.ui(ui.Options{})
		var b strings.Builder
		u.Notice("before")
		widths := []int{30, 70, 45, 110}
		scene(u.Reporter(), func() {
			synctest.Wait()
			s.resize(widths[0])
			widths = widths[1:]
			time.Sleep(1150 * time.Millisecond)
			synctest.Wait()
			b.WriteString(s.String())
		})
		u.Close()
		b.WriteString("closed\n" + s.history())
		golden.Equal(t, "live_resize.golden", b.String())
	})
}

// Log lines, notices and warnings stay above what is live, complete.
func TestLiveLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 60, 10)
		u := s.ui(ui.Options{})
		log := slog.New(slog.NewTextHandler(u.Log(), &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}}))
		r := u.Reporter()
		r.Report(lifecycle.Event{Kind: lifecycle.StepStarted, Machine: "core-01", Step: "start domain"})
		log.Info("before the first frame")
		time.Sleep(time.Second)
		log.Info("run", "argv", "qemu-system-x86_64 -name core-01 -machine q35 -cpu host -m 1024 -nodefaults")
		log.Info("exactly", "sixty", strings.Repeat("x", 60-len("level=INFO msg=exactly sixty=")))
		u.Log().Write([]byte("no newline"))
		u.Warn("memory of core-01 is more than half of the host's: %s", "it may swap")
		r.Report(lifecycle.Event{Kind: lifecycle.Notice, Machine: "core-01", Message: "host port 2375 is in use: 2376 it is"})
		time.Sleep(time.Second)
		synctest.Wait()
		u.Close()
		log.Info("after")
		golden.Equal(t, "live_log.golden", s.history())
	})
}

// A display costs writes only while something changes, at most ten a second.
func TestLiveWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 80, 24)
		u := s.ui(ui.Options{})
		r := u.Reporter()
		for i := range 1000 {
			r.Report(lifecycle.Event{Kind: lifecycle.Progress, Step: "fetch image", Done: int64(i) * 1e6, Total: 1e9})
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if n := s.count(); n < 8 || n > 11 {
			t.Errorf("%d writes in a second of many events, want about 10", n)
		}
		r.Report(lifecycle.Event{Kind: lifecycle.StepDone, Step: "fetch image"})
		r.Report(lifecycle.Event{Kind: lifecycle.StepStarted, Machine: "core-01", Step: "wait for SSH"})
		time.Sleep(time.Second)
		synctest.Wait()
		before := s.count()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := s.count() - before; n < 59 || n > 61 {
			t.Errorf("%d writes in a minute of waiting, want 60", n)
		}
		r.Report(lifecycle.Event{Kind: lifecycle.MachineDone, Machine: "core-01", Seconds: 61})
		time.Sleep(time.Second)
		synctest.Wait()
		before = s.count()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := s.count() - before; n != 0 {
			t.Errorf("%d writes after all is done, want none", n)
		}
		u.Close()
	})
}

// What is over in no time shows its end, in one write.
func TestLiveQuick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 80, 24)
		u := s.ui(ui.Options{})
		r := u.Reporter()
		r.Report(lifecycle.Event{Kind: lifecycle.StepStarted, Machine: "core-01", Step: "look"})
		time.Sleep(50 * time.Millisecond)
		r.Report(lifecycle.Event{Kind: lifecycle.MachineDone, Machine: "core-01", Message: "already running", Seconds: 0.05})
		u.Close()
		u.Close()
		r.Report(lifecycle.Event{Kind: lifecycle.StepStarted, Machine: "core-02", Step: "late"})
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.count() != 1 {
			t.Errorf("%d writes, want 1", s.count())
		}
		if want := "✓ core-01  done    0.1s  already running"; s.lines[0] != want {
			t.Errorf("got %q, want %q", s.lines[0], want)
		}
	})
}

// A machine that had nothing to do has no step to show.
func TestLiveNothingToDo(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 80, 24)
	u := s.ui(ui.Options{})
	u.Reporter().Report(lifecycle.Event{Kind: lifecycle.MachineDone, Machine: "core-01", Message: "already running"})
	u.Close()
	if want := "✓ core-01  done    0.0s  already running"; s.lines[0] != want {
		t.Errorf("got %q, want %q", s.lines[0], want)
	}
}

// The screen is settled before other output, whatever the order of calls.
func TestLiveSettles(t *testing.T) {
	t.Parallel()
	for name, show := range map[string]func(*ui.UI){
		"Error": func(u *ui.UI) { u.Error(errors.New("boot: no")) },
		"Table": func(u *ui.UI) { u.Table([]ui.Column{{Name: "NAME"}}, nil) },
		"JSON":  func(u *ui.UI) { u.JSON(1) },
		"Close": (*ui.UI).Close,
		"panic": func(u *ui.UI) {
			defer func() { recover() }()
			defer u.Close()
			panic("on purpose")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScreen(t, 80, 24)
				u := s.ui(ui.Options{})
				u.Reporter().Report(lifecycle.Event{Kind: lifecycle.StepStarted, Machine: "core-01", Step: "boot"})
				time.Sleep(1500 * time.Millisecond)
				synctest.Wait()
				show(u)
				if want := "- core-01  boot      1s  not finished"; s.lines[0] != want {
					t.Errorf("got %q, want %q", s.lines[0], want)
				}
				n := s.count()
				time.Sleep(time.Minute)
				synctest.Wait()
				if s.count() != n {
					t.Error("the display goes on")
				}
			})
		})
	}
}

func TestReportConcurrently(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 60, 10)
		u := s.ui(ui.Options{})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				name := fmt.Sprintf("core-%02d", i+1)
				r := u.Reporter()
				for j := range 10 {
					r.Report(lifecycle.Event{Kind: lifecycle.StepStarted, Machine: name, Step: fmt.Sprint("step ", j)})
					fmt.Fprintf(u.Log(), "%s at %d\n", name, j)
					time.Sleep(time.Duration(37+i) * time.Millisecond)
				}
				r.Report(lifecycle.Event{Kind: lifecycle.MachineDone, Machine: name, Seconds: 1})
			})
		}
		wg.Wait()
		u.Close()
		if n := strings.Count(s.history(), "✓"); n != 20 {
			t.Errorf("%d machines in\n%s, want 20", n, s.history())
		}
		if n := strings.Count(s.history(), " at "); n != 200 {
			t.Errorf("%d log lines, want 200", n)
		}
	})
}

func TestPlain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		u := ui.New(ui.Options{Stderr: &out})
		r := u.Reporter()
		scene(r, func() {})
		// A wait whose reason changes all the time is told every 15 seconds, one
		// that does not change every 30.
		r.Report(lifecycle.Event{Kind: lifecycle.StepStarted, Machine: "core-03", Step: "wait for Docker"})
		for i := range 40 {
			r.Report(lifecycle.Event{Kind: lifecycle.Progress, Machine: "core-03", Message: fmt.Sprintf("attempt %d", i+1)})
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Minute)
		fmt.Fprintln(u.Log(), "level=INFO msg=logged")
		u.Close()
		golden.Equal(t, "plain.golden", out.String())
	})
}

// A dumb terminal gets lines as well.
func TestDumbTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 80, 24)
		u := s.ui(ui.Options{}, "TERM", "dumb")
		scene(u.Reporter(), func() {})
		u.Error(errors.New("no"))
		u.Close()
		if strings.Contains(s.raw.String(), "\x1b") {
			t.Errorf("escape sequences for a dumb terminal: %q", s.raw.String())
		}
	})
}

func TestStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out, talk bytes.Buffer
		u := ui.New(ui.Options{Stdout: &out, Stderr: &talk, JSON: true})
		scene(u.Reporter(), func() {})
		u.Notice("aside")
		u.Close()
		golden.Equal(t, "stream.golden", out.String())
		if want := "notice: aside\n"; talk.String() != want {
			t.Errorf("stderr has %q, want %q", talk.String(), want)
		}
	})
}
