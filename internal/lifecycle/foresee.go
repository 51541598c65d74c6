package lifecycle

import (
	"context"
	"errors"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
)

// Problem is something that [Engine.Up] would refuse.
type Problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint"` // "" when another machine's problem, which is the same, has it
	// Err is a *[ConfigError] with the place in the machine file; nil when another
	// machine's problem has it.
	Err error `json:"-"`
}

// foresee fills in the problems of plans, as if all restarts and replacements were
// agreed to. It looks at what stays as it is until somebody mends it: memory,
// networks and folders. Host ports come and go, and whether the provider works is
// for the steps to find out.
func (e *Engine) foresee(ctx context.Context, plans []MachinePlan, machines, all []*machinefile.Machine, state *project.State) error {
	op := &operation{all: all, replaced: map[string]bool{}, looks: true}
	boots := make([]*boot, len(machines))
	for i, m := range machines {
		b := &boot{job: e.job(m.Name), machine: m, op: op, plan: plans[i], state: state.Machines[m.Name]}
		b.status.State = b.plan.State
		b.restart, b.replace = b.plan.Action == RestartAction, b.plan.Action == ReplaceAction
		op.replaced[m.Name] = b.replace
		boots[i] = b
	}
	index := make([]int, len(boots))
	for i := range index {
		index[i] = i
	}
	_ = each(index, func(i int) error { // what goes wrong with looking is up's to tell
		plans[i].Problems = boots[i].problems(ctx, state)
		return nil
	})
	return context.Cause(ctx)
}

// problems lists everything that is wrong, where the steps stop at the first kind.
func (b *boot) problems(ctx context.Context, state *project.State) []Problem {
	b.lookAtFolders()
	errs := []error{b.checkMemory(ctx), b.checkNetworks(ctx, state)}
	for i := range b.machine.Shares {
		errs = append(errs, b.checkShare(ctx, &b.machine.Shares[i]))
	}
	out := []Problem{}
	for _, err := range errs {
		p := Problem{Hint: hint.Of(err)}
		_, refused := errors.AsType[*ConfigError](err)
		switch {
		case refused:
			p.Err = err
		case !errors.Is(err, errRefused):
			continue // nil, or a provider that does not tell
		}
		p.Error = err.Error()
		out = append(out, p)
	}
	return out
}
