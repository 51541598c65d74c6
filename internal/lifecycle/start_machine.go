package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
)

// startMachine boots the domain and has its forwards in force. Between
// assigning a port and binding it anybody may have taken it: what may move then
// moves.
func (b *boot) startMachine(ctx context.Context) (string, error) {
	lost := map[uint16]bool{}
	for {
		err := b.bind(ctx)
		var taken *provider.PortError
		switch {
		case err == nil:
			status, err := b.provider.Status(ctx, b.name)
			if err != nil {
				return "", err
			}
			b.accel = status.Accel
			return accelText(b.accel), nil
		case !errors.As(err, &taken):
			return "", atField(err, b.machine)
		case lost[taken.Forward.HostPort]:
			return "", err // it was not chosen again: somebody else's fault
		}
		if w := b.wishFor(taken.Forward.Name); w != nil && w.fixed {
			return "", hint.Wrap(err, "set auto_correct = true (%s line %d) to take the next free port, or choose another host port",
				w.declared.Range.Filename, w.declared.Range.Start.Line)
		}
		lost[taken.Forward.HostPort] = true
		if err := b.reassign(ctx, lost); err != nil {
			return "", err
		}
		b.notice("host port %s was taken meanwhile; %s moves on", taken.Forward.HostAddr(), taken.Forward.Name)
	}
}

// bind starts the domain, which is nothing when it runs, and has its forwards
// in force.
func (b *boot) bind(ctx context.Context) error {
	if err := b.provider.Start(ctx, b.name); err != nil {
		return err
	}
	if b.live {
		if err := b.addForwards(ctx); err != nil {
			return err
		}
	}
	if b.needsAgentToBoot() {
		return b.engine.agent().Sync(ctx, b.name)
	}
	return nil
}

func (b *boot) wishFor(name string) *wish {
	for _, w := range wishes(b.machine, b.state.Spec, nil) {
		if w.Name == name {
			return &w
		}
	}
	return nil
}

// reassign chooses other ports than the lost ones and tells the provider.
func (b *boot) reassign(ctx context.Context, lost map[uint16]bool) error {
	err := b.engine.Project.Update(func(s *project.State) error {
		c := claim{machine: b.machine, spec: b.state.Spec, assigned: b.state.Forwards, lost: lost}
		if b.live || !b.forwards() {
			c.kept = b.state.Forwards // the others may be bound already
		}
		fs, err := b.ports.assign(ctx, c, s)
		if err != nil {
			return err
		}
		b.state.Forwards = fs
		s.Machines[b.name] = b.state
		return nil
	})
	if err != nil || b.live || !b.forwards() {
		return err
	}
	if err := b.provider.Create(ctx, b.domain()); err != nil {
		return fmt.Errorf("change forwards: %w", err)
	}
	return nil
}
