// Command demo plays an up of several machines through package ui, to look at:
//
//	go run ./internal/ui/testdata/demo [-machines 3] [-o json] [-fail] [-v] [-panic]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/ui"
)

type notReady struct{ error }

func (notReady) Detail() string {
	return "\x1b[2J\x1b[1;1H[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mBasic System\x1b[0m.\r\n" +
		"\x1b]0;owned\x07[\x1b[0;1;31mFAILED\x1b[0m] Failed to start docker.service - Docker Application Container Engine, which takes longer.\r\n"
}

func main() {
	machines := flag.Int("machines", 3, "how many")
	output := flag.String("o", "text", "text or json")
	fail := flag.Bool("fail", false, "let the second machine fail")
	verbose := flag.Bool("v", false, "log")
	crash := flag.Bool("panic", false, "panic on the way")
	confirm := flag.Bool("confirm", false, "ask first")
	noColor := flag.Bool("no-color", false, "no colours")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	u := ui.New(ui.Options{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, NoColor: *noColor, JSON: *output == "json"})
	defer u.Close()
	log := slog.New(slog.DiscardHandler)
	if *verbose {
		log = slog.New(slog.NewTextHandler(u.Log(), nil))
	}
	if *confirm {
		yes, err := u.Confirm(ctx, "destroy core-01 and its disk?")
		if err != nil {
			u.Error(err)
			return
		}
		u.Notice("the answer was %v", yes)
	}

	r := u.Reporter()
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	step := func(machine, name, waits string, d time.Duration) {
		r.Report(lifecycle.Event{Time: time.Now(), Kind: lifecycle.StepStarted, Machine: machine, Step: name, Message: waits})
		log.Info("step", "machine", machine, "step", name)
		pause(d)
		if ctx.Err() == nil {
			r.Report(lifecycle.Event{Time: time.Now(), Kind: lifecycle.StepDone, Machine: machine, Step: name, Seconds: d.Seconds()})
		}
	}

	step("", "check host", "", 50*time.Millisecond)
	r.Report(lifecycle.Event{Kind: lifecycle.Notice, Message: "this host has no hardware virtualisation: guests run emulated, which takes several times as long"})
	const total = 480e6
	r.Report(lifecycle.Event{Kind: lifecycle.StepStarted, Step: "fetch image"})
	for n := int64(0); n < total && ctx.Err() == nil; n += 3e6 {
		r.Report(lifecycle.Event{Kind: lifecycle.Progress, Step: "fetch image", Done: n, Total: total})
		pause(30 * time.Millisecond)
	}
	r.Report(lifecycle.Event{Kind: lifecycle.StepDone, Step: "fetch image", Message: "flatcar stable 4230.2.1", Seconds: 4.8})
	if *crash {
		panic("on purpose")
	}

	var wg sync.WaitGroup
	errs := make([]error, *machines)
	for i := range *machines {
		wg.Go(func() {
			name := fmt.Sprintf("core-%02d", i+1)
			step(name, "create domain", "", time.Second)
			step(name, "wait for SSH", "127.0.0.1:2222: connection refused", time.Duration(2000+700*i)*time.Millisecond)
			if *fail && i == 1 {
				err := fmt.Errorf("%s: wait for Docker: tcp://127.0.0.1:2376: timed out after 2m0s: connection refused", name)
				errs[i] = hint.Wrap(notReady{err}, "look at the guest's log with hostctl logs %s, and at what the machine file says about Docker", name)
				r.Report(lifecycle.Event{Kind: lifecycle.MachineFailed, Machine: name, Step: "wait for Docker", Seconds: 123, Error: err.Error()})
				return
			}
			step(name, "wait for Docker", fmt.Sprintf("tcp://127.0.0.1:%d", 2375+i), time.Duration(1500+300*i)*time.Millisecond)
			if ctx.Err() == nil {
				r.Report(lifecycle.Event{Kind: lifecycle.MachineDone, Machine: name, Message: fmt.Sprintf("tcp://127.0.0.1:%d", 2375+i), Seconds: 4.6 + float64(i)})
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		u.Error(errors.New("interrupted"))
		return
	}
	if err := errors.Join(errs...); err != nil {
		u.Error(err)
	}
	tone := func(s string) ui.Tone {
		if s == "running" {
			return ui.Good
		}
		return ui.Bad
	}
	if *output == "text" {
		u.Table([]ui.Column{{Name: "NAME"}, {Name: "STATE", Tone: tone}, {Name: "PORTS", Right: true}, {Name: "DOCKER"}},
			[][]string{{"core-01", "running", "1", "tcp://127.0.0.1:2375"}, {"core-02", "unhealthy", "12", ""}})
	}
}
