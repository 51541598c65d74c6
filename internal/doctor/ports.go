package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// mostPorts is how many taken ports are named: finding out who holds one means
// looking through all processes.
const mostPorts = 5

// running returns the project's machines that run.
func (p *Patient) running(ctx context.Context) map[string]*project.MachineState {
	state, err := p.Project.Load()
	if err != nil {
		return nil // machineFile says so
	}
	running := map[string]*project.MachineState{}
	for name, m := range state.Machines {
		prov, err := p.Provider(m.Provider)
		if err != nil {
			continue
		}
		if s, err := prov.Status(ctx, name); err == nil && s.State == provider.Running {
			running[name] = &m
		}
	}
	return running
}

// holds reports whether a machine that runs has the port of f itself: one that the
// machine file wants now, and up did not give it yet, may be anybody's.
func holds(m *project.MachineState, f machinefile.Forward) bool {
	return f.AutoCorrect || slices.ContainsFunc(m.Forwards, func(has network.Forward) bool {
		return has.Protocol == f.Protocol && has.HostPort == f.HostPort
	})
}

// hostPorts looks for holders of the ports that the machine file insists on.
// Machines that run hold theirs themselves.
func (p *Patient) hostPorts(ctx context.Context) []Finding {
	if len(p.machines()) == 0 {
		return nil
	}
	running := p.running(ctx)
	var found []Finding
	free, own, taken := 0, 0, 0
	for _, m := range p.machines() {
		for _, f := range m.Forwards {
			switch {
			case running[m.Name] != nil && holds(running[m.Name], f):
				own++
			case f.AutoCorrect:
			case taken == mostPorts:
				return append(found, Finding{Level: Problem, Detail: "and perhaps more"})
			default:
				err := network.Probe(ctx, network.Forward{Name: f.Name, Protocol: f.Protocol, HostIP: f.HostIP, HostPort: f.HostPort, GuestPort: f.GuestPort})
				if err == nil {
					free++
					continue
				}
				if ctx.Err() != nil {
					return append(found, Finding{Level: Warning, Detail: context.Cause(ctx).Error()})
				}
				taken++
				found = append(found, portTaken(m, f, err))
			}
		}
	}
	if taken > 0 {
		return found
	}
	switch {
	case free+own == 0:
		return one(ok("hostctl chooses them"))
	case own == 0:
		return one(ok("%s of the machine file free", count(free, "port")))
	case free == 0:
		return one(ok("%s of the machine file in use by its machines", count(own, "port")))
	}
	return one(ok("%s of the machine file free, and %d in use by its machines", count(free, "port"), own))
}

func portTaken(m *machinefile.Machine, f machinefile.Forward, err error) Finding {
	found := Finding{
		Level:  Problem,
		Detail: fmt.Sprintf("machine %q: forward %q: %v", m.Name, f.Name, err),
		Fix:    fmt.Sprintf("set auto_correct = true (%s line %d) to take the next free port, or choose another", machinefile.FileName, f.Range.Start.Line),
	}
	if _, ok := errors.AsType[*network.InUseError](err); ok {
		return found
	}
	if errors.Is(err, fs.ErrPermission) {
		found.Fix = fmt.Sprintf("choose a host port of 1024 or more (%s line %d): lower ones are the system's", machinefile.FileName, f.Range.Start.Line)
		return found
	}
	found.Fix = fmt.Sprintf("choose a host_ip that this computer has (%s line %d)", machinefile.FileName, f.Range.Start.Line)
	return found
}
