// Package doctor looks for what keeps machines from coming up on this host,
// or a Docker client from reaching them. It changes nothing: it says what is
// wrong and how to mend it.
package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/run"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
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
}

// patience is how long checks have, all at once.
const patience = 3 * time.Second

// grace is what a check that keeps to its context may take to say so.
const grace = 200 * time.Millisecond

// Run makes all checks at once and returns their findings in the order of the
// checks. One that does not come to an end is left behind: a disk of another
// computer that does not answer cannot be waited for.
func Run(ctx context.Context, checks []Check) []Finding {
	over, stop := context.WithTimeout(ctx, patience+grace)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	results := make([]chan []Finding, len(checks))
	for i, c := range checks {
		results[i] = make(chan []Finding, 1)
		go func() { results[i] <- c.Look(ctx) }()
	}
	var all []Finding
	for i, c := range checks {
		found := []Finding{{Level: Warning, Detail: fmt.Sprintf("no answer within %s", patience)}}
		select {
		case found = <-results[i]:
		case <-over.Done():
			select {
			case found = <-results[i]:
			default:
			}
		}
		for _, f := range found {
			f.Check = c.Name
			all = append(all, f)
		}
	}
	return all
}

// Checks lists all of them, in the order in which their findings read well:
// what a guest needs first.
func (p *Patient) Checks() []Check {
	return []Check{
		{"machine file", p.machineFile},
		{"QEMU", p.qemu},
		{"acceleration", p.acceleration},
		{"libvirt", p.libvirt},
		{"image cache", p.imageCache},
		{"disk space", p.diskSpace},
		{"memory", p.memory},
		{"host ports", p.hostPorts},
		{"networks", p.networks},
		{"agent", p.agent},
		{"Docker client", p.dockerClient},
		{"environment", p.environment},
	}
}

func ok(format string, args ...any) Finding {
	return Finding{Level: OK, Detail: fmt.Sprintf(format, args...)}
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
