package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/hint"
)

// agent says whether the project's agent runs and does its work.
func (p *Patient) agent(ctx context.Context) []Finding {
	state, err := p.Project.Load()
	if err != nil || len(state.Machines) == 0 {
		return nil
	}
	status, err := p.Agent.Status(ctx)
	if errors.Is(err, agent.ErrNotRunning) {
		needed, err := p.Agent.Needed(ctx)
		switch {
		case err != nil:
			return one(Finding{Level: Warning, Detail: err.Error(), Fix: hint.Of(err)})
		case needed:
			return one(Finding{Level: Warning, Detail: "not running: what containers publish is not reached, nor are forwards that the agent carries", Fix: "hostctl up"})
		}
		return one(Finding{Level: Info, Detail: "not running: no machine needs it"})
	}
	if err != nil {
		return one(Finding{Level: Warning, Detail: err.Error(), Fix: cmp.Or(hint.Of(err), "hostctl up replaces one that does not answer")})
	}
	running := p.running(ctx)
	forwards, published := 0, 0
	var found []Finding
	for _, name := range slices.Sorted(maps.Keys(status.Machines)) {
		m := status.Machines[name]
		forwards += len(m.Forwards)
		published += len(m.Published)
		if running[name] == nil {
			continue // it was just halted, and the agent is about to let go
		}
		if m.Error != "" {
			found = append(found, Finding{Level: Warning, Detail: fmt.Sprintf("machine %q: %s", name, m.Error), Fix: "hostctl up " + name})
		}
		for _, f := range m.Forwards {
			if f.Error != "" {
				found = append(found, Finding{Level: Warning, Detail: fmt.Sprintf("machine %q: forward %q: %s", name, f.Name, f.Error), Fix: "hostctl up " + name})
			}
		}
	}
	if status.Version != p.Version {
		found = append(found, Finding{Level: Info, Detail: fmt.Sprintf("it is of hostctl %s, and this is %s", status.Version, p.Version)})
	}
	own := ok("runs (pid %d): %s, %s", status.PID, count(forwards, "forward"), count(published, "published port"))
	return append(one(own), found...)
}
