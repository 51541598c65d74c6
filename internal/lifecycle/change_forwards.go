package lifecycle

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// forwards reports whether the provider forwards host ports itself. Else that
// is the agent's work.
func (b *boot) forwards() bool {
	_, ok := provider.As[provider.Forwarder](b.provider)
	return ok
}

// needsAgentToBoot reports whether the guest lacks forwards, or networks, without
// the agent.
func (b *boot) needsAgentToBoot() bool {
	_, switched := provider.As[provider.Switched](b.provider)
	return !b.forwards() || switched && hostOnly(b.state) || b.state.AsksServer()
}

// needsAgent reports whether the agent has work to do for the machine.
func (b *boot) needsAgent() bool {
	return b.needsAgentToBoot() || b.state.Spec.PublishPorts || slices.ContainsFunc(b.state.Spec.Shares, project.ShareSpec.Mirrored)
}

// changeForwards writes down the forwards that the file has now for a running
// machine, after taking those away that it has no longer: their ports may be
// asked for again. start machine adds the new ones. The state never lacks a
// forward that is in force.
func (b *boot) changeForwards(ctx context.Context) (string, error) {
	wanted := changeable(b.state.Spec, specOf(b.machine))
	kept := b.keptForwards(wanted)
	c := claim{machine: b.machine, spec: wanted, assigned: b.state.Forwards, kept: kept}
	if fw, ok := provider.As[provider.Forwarder](b.provider); ok {
		if len(kept) == len(b.state.Forwards) && reflect.DeepEqual(wanted.Forwards, b.state.Spec.Forwards) && sameForwards(b.status.Forwards, kept) {
			return b.record(wanted, "already running")
		}
		in, err := fw.LiveForwards(ctx, b.name)
		if err != nil {
			return "", err
		}
		for _, f := range in {
			if !leads(kept, f) {
				if err := fw.RemoveForward(ctx, b.name, f); err != nil {
					return "", err
				}
			}
		}
		b.live = true
	} else {
		c.own = b.state.Forwards // the agent binds them, and moves them by itself
	}
	err := b.engine.Project.Update(func(s *project.State) error {
		fs, err := b.ports.assign(ctx, c, s)
		if err != nil {
			return err
		}
		ms := b.state
		ms.Spec, ms.Forwards = wanted, fs
		s.Machines[b.name], b.state = ms, ms
		return nil
	})
	if err != nil {
		return "", err
	}
	b.tellMoved()
	return "running, ssh on " + b.state.SSH().HostAddr().String(), nil
}

// record writes down what the machine follows by now.
func (b *boot) record(spec project.Spec, found string) (string, error) {
	if reflect.DeepEqual(spec, b.state.Spec) {
		return found, nil
	}
	b.state.Spec = spec
	return found, b.engine.record(b.name, b.state)
}

// keptForwards lists the machine's forwards that stay where they are. One that
// the file does not declare differently stays on a port that was not its first
// choice.
func (b *boot) keptForwards(wanted project.Spec) []network.Forward {
	var out []network.Forward
	for _, w := range wishes(b.machine, wanted, b.state.Forwards) {
		f, ok := sameWish(b.state.Forwards, w)
		if !ok {
			continue
		}
		if w.HostPort == f.HostPort || !w.fixed && slices.Contains(b.state.Spec.Forwards, w.Forward) {
			out = append(out, f)
		}
	}
	return out
}

// addForwards has the state's forwards in force in the running domain, also at
// its next start.
func (b *boot) addForwards(ctx context.Context) error {
	fw, _ := provider.As[provider.Forwarder](b.provider)
	in, err := fw.LiveForwards(ctx, b.name)
	if err != nil {
		return err
	}
	for _, f := range b.state.Forwards {
		if !leads(in, f) {
			if err := fw.AddForward(ctx, b.name, f); err != nil {
				return err
			}
		}
	}
	// Whatever else differs is for the next start, which goes through Create
	// with it.
	if err := b.provider.Create(ctx, b.domain()); err != nil && !errors.Is(err, provider.ErrRunning) {
		return err
	}
	return nil
}

// leads reports whether one of fs leads the same host port to the same place.
func leads(fs []network.Forward, f network.Forward) bool {
	return slices.ContainsFunc(fs, func(o network.Forward) bool {
		return o.Protocol == f.Protocol && o.HostAddr() == f.HostAddr() && o.GuestPort == f.GuestPort
	})
}

// sameForwards compares without regard to order and names, which not every
// hypervisor keeps.
func sameForwards(a, b []network.Forward) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(f network.Forward) bool { return !leads(b, f) })
}
