// Package lifecycle brings machines up and takes them down. Each operation is
// a list of steps that can be read on one screen; machines go through it in
// parallel. Every step looks before it acts, so that an operation that was
// killed anywhere is finished by running it again.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// Images is what an operation needs of the image cache.
type Images interface {
	Ensure(ctx context.Context, ref image.Ref, progress func(image.Progress)) (*image.Image, error)
}

// Guests is how an operation learns that a guest is ready. The waits return
// nil when it is, and else what the last attempt found.
type Guests interface {
	// WaitSSH logs in; a guest with another host key is not waited for.
	WaitSSH(ctx context.Context, t sshclient.Target) error
	// WaitDocker waits for the API at host, for instance
	// "tcp://127.0.0.1:2375"; PingDocker asks once.
	WaitDocker(ctx context.Context, host string) error
	PingDocker(ctx context.Context, host string) error
	// Exec runs a command line in the guest's shell. A status other than 0 is
	// an error that says what the command did.
	Exec(ctx context.Context, t sshclient.Target, command string, stdin io.Reader) error
}

// Agent is the project's background process, as operations need it.
type Agent interface {
	// Sync makes the agent follow the state as it is on disk now, starting one
	// when something needs it, and returns when it does. A forward of the
	// machine that it cannot bind gives a *[provider.PortError]; what is wrong
	// with other machines is not this caller's. Without need it does nothing.
	Sync(ctx context.Context, machine string) error
	// Stop ends the agent. One that does not run is not an error.
	Stop(ctx context.Context) error
}

// Engine runs operations on one project's machines.
type Engine struct {
	Project  *project.Project
	Provider func(name string) (provider.Provider, error)
	// Providers are the names of those that may have machines of the project.
	Providers []string
	// Libvirt is where new machines of that provider are made: what the file
	// says, or else what stands for it.
	Libvirt machinefile.Libvirt
	Images  Images
	Guests  Guests
	// Agent is the project's; nil where nothing needs one.
	Agent Agent
	// Mirrors and Exports do what shares of other kinds than the agent's need;
	// nil where there is none.
	Mirrors Mirrors
	Exports SystemExports
	// Folders looks at the folders of shares.
	Folders  folder.Looks
	Reporter Reporter
	// Yes agrees to restarts and replacements beforehand.
	Yes bool
	// Confirm asks whether to; nil agrees to nothing.
	Confirm func(ctx context.Context, question string) (bool, error)
	// Choose asks for one of several options and returns its index, -1 where
	// nobody is there to ask; nil chooses none.
	Choose func(ctx context.Context, question string, options []string) (int, error)
	// Subnets lists those that this host has a use for; nil is
	// [network.UsedSubnets].
	Subnets func(ctx context.Context) ([]network.UsedSubnet, error)
	// Command is what others who wait for the project's lock are told, for
	// instance "hostctl up".
	Command string
	// Timeout bounds each wait for a guest; 0 chooses by accelerator.
	Timeout time.Duration

	checks  hostChecks
	notes   sync.Mutex // held while a machine's readiness is noted
	exports sync.Mutex // held while Exports follows the state
}

// hostChecks asks each provider once per operation and kind of guest, however
// many machines there are.
type hostChecks struct {
	mu   sync.Mutex
	done map[hostQuestion]*hostCheck
}

type hostQuestion struct {
	provider string
	needs    provider.Needs
}

type hostCheck struct {
	once sync.Once
	host provider.Host
	err  error
	told sync.Once
}

// check asks the provider about this host. Its notice, which says how guests run,
// is passed on once, by a machine that starts.
func (e *Engine) check(ctx context.Context, name string, p provider.Provider, n provider.Needs, starts bool) (provider.Host, error) {
	question := hostQuestion{name, n}
	e.checks.mu.Lock()
	if e.checks.done == nil {
		e.checks.done = map[hostQuestion]*hostCheck{}
	}
	c := e.checks.done[question]
	if c == nil {
		c = &hostCheck{}
		e.checks.done[question] = c
	}
	e.checks.mu.Unlock()
	c.once.Do(func() { c.host, c.err = p.Check(ctx, n) })
	if starts && c.err == nil && c.host.Notice != "" {
		c.told.Do(func() { e.notice("%s", c.host.Notice) })
	}
	return c.host, c.err
}

// agent returns the project's agent, or one that does nothing.
func (e *Engine) agent() Agent {
	if e.Agent == nil {
		return noAgent{}
	}
	return e.Agent
}

type noAgent struct{}

func (noAgent) Sync(context.Context, string) error { return nil }
func (noAgent) Stop(context.Context) error         { return nil }

// lock takes the project's lock and tells the user when that means waiting.
func (e *Engine) lock(ctx context.Context) (unlock func() error, err error) {
	return e.Project.Lock(ctx, e.Command, func(h project.Holder) {
		e.Reporter.Report(Event{Time: time.Now(), Kind: Notice, Message: fmt.Sprintf("waiting for %s", h)})
	})
}

// job is one machine's way through an operation.
type job struct {
	engine  *Engine
	name    string
	started time.Time
	step    string
}

func (e *Engine) job(name string) *job {
	return &job{engine: e, name: name, started: time.Now()}
}

func (j *job) report(ev Event) {
	ev.Time, ev.Machine = time.Now(), j.name
	j.engine.Reporter.Report(ev)
}

// progress says what the current step waits for.
func (j *job) progress(format string, args ...any) {
	j.report(Event{Kind: Progress, Step: j.step, Message: fmt.Sprintf(format, args...)})
}

func (j *job) notice(format string, args ...any) {
	j.report(Event{Kind: Notice, Step: j.step, Message: fmt.Sprintf(format, args...)})
}

// do runs one step and reports its beginning and its end. What fn returns is
// what the step found or did, in a few words.
func (j *job) do(name string, fn func() (string, error)) error {
	j.step = name
	start := time.Now()
	j.report(Event{Kind: StepStarted, Step: name})
	found, err := fn()
	if err != nil {
		return &StepError{Machine: j.name, Step: name, Err: err}
	}
	j.report(Event{Kind: StepDone, Step: name, Message: found, Seconds: time.Since(start).Seconds()})
	return nil
}

// finish reports the machine's last event.
func (j *job) finish(message string, err error) {
	ev := Event{Kind: MachineDone, Message: message, Seconds: time.Since(j.started).Seconds()}
	if err != nil {
		ev.Kind, ev.Step, ev.Message = MachineFailed, j.step, ""
		ev.Error, ev.Hint = err.Error(), hint.Of(err)
	}
	j.report(ev)
}

// each runs fn for every item at once and waits for all of them: one
// machine's failure does not stop the others. The errors come back joined, in
// the items' order.
func each[T any](items []T, fn func(T) error) error {
	errs := make([]error, len(items))
	var g errgroup.Group
	for i, item := range items {
		g.Go(func() error {
			errs[i] = fn(item)
			return nil
		})
	}
	_ = g.Wait() // the workers keep their errors in errs
	return errors.Join(errs...)
}
