package lifecycle

import (
	"context"
	"errors"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
)

// Halt shuts machines down in order. Those that do not run are left alone.
func (e *Engine) Halt(ctx context.Context, names []string) error {
	if !e.Project.Exists() {
		return each(names, e.nothing)
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	return errors.Join(e.halt(ctx, names), unlock())
}

func (e *Engine) nothing(name string) error {
	e.job(name).finish("not created", nil)
	return nil
}

// halt needs the lock.
func (e *Engine) halt(ctx context.Context, names []string) error {
	return each(names, func(name string) error {
		j := e.job(name)
		message, err := e.haltOne(ctx, j)
		j.finish(message, err)
		return err
	})
}

func (e *Engine) haltOne(ctx context.Context, j *job) (string, error) {
	p, ms, err := e.known(j.name)
	if err != nil || p == nil {
		return "not created", err
	}
	status, err := p.Status(ctx, j.name)
	if errors.Is(err, provider.ErrNotFound) {
		return "not created", nil
	}
	if err != nil {
		return "", err
	}
	if status.State != provider.Running {
		return "already stopped", nil
	}
	err = j.do("shut down", func() (string, error) {
		if ms.Ready {
			ms.Ready = false
			if err := e.record(j.name, ms); err != nil {
				return "", err
			}
		}
		if ms.AsksServer() {
			// The guest writes back what it has not yet, and unmounts: that takes
			// a server. It waits for one, and is powered off in the end.
			if err := e.agent().Sync(ctx, j.name); err != nil && ctx.Err() == nil {
				j.notice("its shares are not served while it shuts down: %v", err)
			}
		}
		err := p.Stop(ctx, j.name)
		if forced, ok := errors.AsType[*provider.ForcedError](err); ok {
			j.notice("%v; what it had not written to its disk is lost", forced)
			return "powered off", e.letGo(ctx, p, j.name)
		}
		if err != nil {
			return "", err
		}
		return "stopped", e.letGo(ctx, p, j.name)
	})
	return "stopped", err
}

// letGo waits until the agent has given up the host ports of a machine that
// was stopped: they are asked for again when it starts.
func (e *Engine) letGo(ctx context.Context, p provider.Provider, name string) error {
	if _, ok := provider.As[provider.Forwarder](p); ok {
		return nil
	}
	return e.agent().Sync(ctx, name)
}

// known returns a machine of the state and its provider; nil for one that was
// never made.
func (e *Engine) known(name string) (provider.Provider, project.MachineState, error) {
	state, err := e.Project.Load()
	if err != nil {
		return nil, project.MachineState{}, err
	}
	ms, ok := state.Machines[name]
	if !ok {
		return nil, ms, nil
	}
	p, err := e.Provider(ms.Provider)
	return p, ms, err
}

func (e *Engine) record(name string, ms project.MachineState) error {
	return e.Project.Update(func(s *project.State) error {
		s.Machines[name] = ms
		return nil
	})
}
