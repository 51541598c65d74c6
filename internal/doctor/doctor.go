// Package doctor looks for what keeps machines from coming up on this host,
// or a Docker client from reaching them. It changes nothing: it says what is
// wrong and how to mend it.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/run"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/exports"
)

// Level says how bad a finding is.
type Level string

// Levels, from good to bad. Only problems keep machines from coming up.
const (
	OK      Level = "ok"
	Info    Level = "info" // not used here, or not asked for
	Warning Level = "warning"
	Problem Level = "problem"
)

// Finding is what a check found out.
type Finding struct {
	Check  string `json:"check"` // the check's name
	Level  Level  `json:"level"`
	Detail string `json:"detail"`        // without a line break
	Fix    string `json:"fix,omitempty"` // the command that mends it, or what to change
}

// Usable reports whether there is no problem among the findings.
func Usable(findings []Finding) bool {
	for _, f := range findings {
		if f.Level == Problem {
			return false
		}
	}
	return true
}

// Patient is what is examined: this host and one project on it.
type Patient struct {
	Getenv   func(string) string
	LookPath func(string) (string, error)
	Runner   run.Runner // nil executes for real
	// Unset is the command line with which the user's shell takes the Docker
	// client's variables back.
	Unset string
	// Version is hostctl's own.
	Version string

	Images *image.Store
	// Provider makes the provider of that name; it fails for unknown ones.
	Provider func(name string) (provider.Provider, error)
	// Project is in the machine file's directory, or where one could be.
	Project *project.Project
	// Config is the machine file; nil where there is none, or it is wrong.
	Config *machinefile.Config
	// Mistakes is how many the machine file has. A file that could not be
	// found has none.
	Mistakes int
	// Agent is the project's.
	Agent Agent
	// Exports is the NFS server of this host; nil where none is known.
	Exports Exports
}

// Exports is what doctor asks the NFS server of this host; an *[exports.Client]
// is one.
type Exports interface {
	Program() (string, error)
	Running(ctx context.Context) error
	Mistakes(ctx context.Context) ([]*exports.Mistake, error)
	Allowed(ctx context.Context) error
}

// Agent is what doctor asks the project's agent; an *[agent.Client] is one.
type Agent interface {
	// Status returns [agent.ErrNotRunning] without an agent.
	Status(ctx context.Context) (agent.Status, error)
	// Needed reports whether a machine runs that needs one.
	Needed(ctx context.Context) (bool, error)
}

// Check looks at one thing.
type Check struct {
	Name string
	// Look returns what there is to say, in order; nothing when the check is
	// not for this host or project. The names of its findings are filled in by
	// [Run]. It may come after ctx has ended, or never.
	Look func(ctx context.Context) []Finding
	// Patience is how long it may take; 0 is 3 seconds.
	Patience time.Duration
}

// late is said of a check that takes longer.
func (c Check) late() string { return fmt.Sprintf("no answer within %s", c.patience()) }

func (c Check) patience() time.Duration { return cmp.Or(c.Patience, patience) }

// How long checks have, all at once. A libvirtd that was just started asks each
// QEMU there is what it can do before it answers.
const (
	patience        = 3 * time.Second
	libvirtPatience = 10 * time.Second
)

// grace is what a check that keeps to its context may take to say so.
const grace = 200 * time.Millisecond

// Run makes all checks at once and returns their findings in the order of the
// checks. One that does not come to an end is left behind: a disk of another
// computer that does not answer cannot be waited for.
func Run(ctx context.Context, checks []Check) []Finding {
	start := time.Now()
	results := make([]chan []Finding, len(checks))
	for i, c := range checks {
		results[i] = make(chan []Finding, 1)
		go func() {
			ctx, cancel := context.WithDeadline(ctx, start.Add(c.patience()))
			defer cancel()
			results[i] <- c.Look(ctx)
		}()
	}
	var all []Finding
	for i, c := range checks {
		for _, f := range await(ctx, results[i], start.Add(c.patience()+grace), c) {
			f.Check = c.Name
			all = append(all, f)
		}
	}
	return all
}

// await returns what c found by the deadline. What is there counts, even when
// the checks before it took all the time.
func await(ctx context.Context, result chan []Finding, deadline time.Time, c Check) []Finding {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	select {
	case found := <-result:
		return found
	case <-ctx.Done():
	}
	select {
	case found := <-result:
		return found
	default:
		return one(Finding{Level: Warning, Detail: c.late()})
	}
}

// Checks lists all of them, in the order in which their findings read well:
// what a guest needs first.
func (p *Patient) Checks() []Check {
	return []Check{
		{Name: "machine file", Look: p.machineFile},
		{Name: "QEMU", Look: p.qemu},
		{Name: "acceleration", Look: p.acceleration},
		{Name: "libvirt", Look: p.libvirt, Patience: libvirtPatience},
		{Name: "image cache", Look: p.imageCache},
		{Name: "disk space", Look: p.diskSpace},
		{Name: "memory", Look: p.memory},
		{Name: "host ports", Look: p.hostPorts},
		{Name: "networks", Look: p.networks},
		{Name: "agent", Look: p.agent},
		{Name: "NFS server", Look: p.nfsServer},
		{Name: "Docker client", Look: p.dockerClient},
		{Name: "environment", Look: p.environment},
	}
}

func ok(format string, args ...any) Finding {
	return Finding{Level: OK, Detail: fmt.Sprintf(format, args...)}
}

// failed is a problem, or, when the answer did not come in time, a doubt.
func failed(err error) Finding {
	if errors.Is(err, context.DeadlineExceeded) {
		return Finding{Level: Warning, Detail: "no answer in time", Fix: "look again: what was just started may need longer once"}
	}
	return Finding{Level: Problem, Detail: err.Error(), Fix: hint.Of(err)}
}

func one(f Finding) []Finding { return []Finding{f} }

// machines are those of the machine file, none without one.
func (p *Patient) machines() []*machinefile.Machine {
	if p.Config == nil {
		return nil
	}
	return p.Config.Machines
}

// uses reports whether a machine of the file, or one that exists, is the
// provider's.
func (p *Patient) uses(providerName string) bool {
	for _, m := range p.machines() {
		if m.Provider == providerName {
			return true
		}
	}
	state, err := p.Project.Load()
	if err != nil {
		return false // machineFile says so
	}
	for _, m := range state.Machines {
		if m.Provider == providerName {
			return true
		}
	}
	return false
}

// count returns "1 machine" or "3 machines".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
