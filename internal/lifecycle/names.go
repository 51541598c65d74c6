package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
)

// namesFor lists the machines that the named one reaches on a host-only
// network, itself too, sorted: each at its address on the first network that
// both are on.
func namesFor(s *project.State, name string) []project.Name {
	ms := s.Machines[name]
	var out []project.Name
	for _, other := range slices.Sorted(maps.Keys(s.Machines)) {
		for _, nic := range ms.NICs {
			theirs := nicOn(s.Machines[other].NICs, nic.Network)
			// A network that machines have in two subnets is two.
			if nic.CIDR.IsValid() && theirs.CIDR == nic.CIDR && s.Machines[other].Provider == ms.Provider {
				out = append(out, project.Name{Name: other, Address: theirs.Address})
				break
			}
		}
	}
	return out
}

func hosts(names []project.Name) []cloudconfig.Host {
	var out []cloudconfig.Host
	for _, n := range names {
		out = append(out, cloudconfig.Host{Name: n.Name, Address: n.Address})
	}
	return out
}

// tellNames has the guest know the project's machines as they are now. What it
// was told is in the state, so that it is asked only when that has changed.
func (e *Engine) tellNames(ctx context.Context, name string) error {
	state, err := e.Project.Load()
	if err != nil {
		return err
	}
	ms, ok := state.Machines[name]
	if !ok {
		return errDestroyed
	}
	names := namesFor(state, name)
	if slices.Equal(names, ms.Names) {
		return nil
	}
	target, err := Target(e.Project, name, ms)
	if err != nil {
		return err
	}
	block := cloudconfig.HostsBlock(hosts(names))
	if err := e.tell(ctx, target, cloudconfig.HostsCommand, block); err != nil {
		return fmt.Errorf("write /etc/hosts: %w", err)
	}
	_, err = e.note(ctx, name, ms.DomainID, func(ms *project.MachineState) { ms.Names = names })
	return err
}

// tellOthers has the guests that this operation was not about know the names
// that it changed. One that cannot be told now is told by its own next up.
func (e *Engine) tellOthers(ctx context.Context, boots []*boot) {
	state, err := e.Project.Load()
	if err != nil {
		return // the machines of this operation have reported it
	}
	var others []string
	for _, name := range slices.Sorted(maps.Keys(state.Machines)) {
		ms := state.Machines[name]
		asked := slices.ContainsFunc(boots, func(b *boot) bool { return b.name == name })
		if !asked && ms.Ready && !slices.Equal(ms.Names, namesFor(state, name)) {
			others = append(others, name)
		}
	}
	_ = each(others, func(name string) error { // each has its notice
		err := e.tellRunning(ctx, name, state.Machines[name])
		if err != nil && ctx.Err() == nil {
			e.Reporter.Report(Event{Time: time.Now(), Kind: Notice, Machine: name, Message: fmt.Sprintf(
				"it does not know the names of the other machines as they are now: %v; hostctl up %s tells it", err, name)})
		}
		return nil
	})
}

func (e *Engine) tellRunning(ctx context.Context, name string, ms project.MachineState) error {
	p, err := e.Provider(ms.Provider)
	if err != nil {
		return err
	}
	status, err := p.Status(ctx, name)
	if err != nil || status.State != provider.Running {
		return nil // its next up tells it
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return e.tellNames(ctx, name)
}

// note changes what the state says of a machine that is still the same one,
// outside of an operation's own lock, and returns it.
func (e *Engine) note(ctx context.Context, name, id string, change func(*project.MachineState)) (project.MachineState, error) {
	e.notes.Lock() // or this process would wait for itself, and say so
	defer e.notes.Unlock()
	if !e.Project.Exists() {
		return project.MachineState{}, errDestroyed
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return project.MachineState{}, err
	}
	var noted project.MachineState
	err = e.Project.Update(func(s *project.State) error {
		ms, ok := s.Machines[name]
		if !ok || ms.DomainID != id {
			return errDestroyed
		}
		change(&ms)
		s.Machines[name], noted = ms, ms
		return nil
	})
	return noted, errors.Join(err, unlock())
}
