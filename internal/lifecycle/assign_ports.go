package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// Where hostctl looks for host ports of its own choice.
const (
	firstSSHPort    = 2222
	firstDockerPort = 2375
)

// ports hands out host ports so that no two machines of the project get one,
// whether they run or not.
type ports struct {
	machines []*machinefile.Machine // the whole machine file
}

// wish is a forward with what is known about its host port.
type wish struct {
	network.Forward
	// fixed ports are used or refused; others move up to the next free one.
	fixed bool
	// declared is the machine file's block; nil for hostctl's own forwards.
	declared *machinefile.Forward
}

// wishes lists the forwards of a machine: its declared ones, then ssh and
// docker where the file declares none. An assigned port is asked for again, so
// that addresses in open shells stay right; a declared one first asks for what
// the file says.
func wishes(m *machinefile.Machine, spec project.Spec, assigned []network.Forward) []wish {
	var out []wish
	haveSSH, haveDocker := false, false
	for i := range m.Forwards {
		f := &m.Forwards[i]
		out = append(out, wish{fixed: !f.AutoCorrect, declared: f, Forward: network.Forward{
			Name: f.Name, Protocol: f.Protocol, HostIP: f.HostIP, HostPort: f.HostPort, GuestPort: f.GuestPort,
		}})
		haveSSH = haveSSH || f.Name == project.SSHForward
		haveDocker = haveDocker || f.Protocol == "tcp" && f.GuestPort == spec.DockerPort
	}
	own := func(name string, from, guest uint16) {
		f := network.Forward{Name: name, Protocol: "tcp", HostIP: netip.AddrFrom4([4]byte{127, 0, 0, 1}), HostPort: from, GuestPort: guest}
		for _, a := range assigned {
			if a.Name == name && a.GuestPort == guest {
				f.HostPort = a.HostPort
			}
		}
		out = append(out, wish{Forward: f})
	}
	if !haveSSH {
		own(project.SSHForward, firstSSHPort, 22)
	}
	if spec.DockerPort != 0 && !haveDocker {
		own(freeName("docker", m.Forwards), firstDockerPort, spec.DockerPort)
	}
	return out
}

// freeName is want, or, where the machine file uses that label for another
// forward, want with a suffix.
func freeName(want string, declared []machinefile.Forward) string {
	for _, f := range declared {
		if f.Name == want {
			return freeName(want+"-api", declared)
		}
	}
	return want
}

// assignPorts gives a new machine its identity, and the machine its forwards.
// One that runs gives up those that the file has no longer.
func (b *boot) assignPorts(ctx context.Context) (string, error) {
	state, err := b.engine.Project.Load()
	if err != nil {
		return "", err
	}
	status, err := b.provider.Status(ctx, b.name)
	if err != nil && !errors.Is(err, provider.ErrNotFound) {
		return "", err
	}
	exists := err == nil
	ms, known := state.Machines[b.name]
	switch {
	case exists && !known:
		return "", hint.Wrap(errors.New("there is a machine of this name that the project's state does not know"),
			"the state was lost: hostctl destroy removes what is left of it")
	case exists && status.State == provider.Running:
		b.state, b.accel = ms, status.Accel
		return b.changeForwards(ctx)
	}
	if known && !exists {
		if err := b.leave(ctx, ms); err != nil {
			return "", err
		}
	}
	b.fresh = !exists
	err = b.engine.Project.Update(func(s *project.State) error {
		ms, known := s.Machines[b.name]
		if !known {
			ms = project.MachineState{DomainID: uuid.NewString()}
		}
		if ms.Created.IsZero() {
			ms.Created = time.Now().UTC().Truncate(time.Second)
		}
		wanted := specOf(b.machine)
		if exists {
			wanted = startable(ms.Spec, wanted)
		} else {
			ms.Provider, ms.Image = b.machine.Provider, *b.image
			b.engine.recordLibvirt(s, ms.Provider)
		}
		fs, err := b.ports.assign(ctx, claim{machine: b.machine, spec: wanted, assigned: ms.Forwards}, s)
		if err != nil {
			return err
		}
		ms.Spec, ms.Forwards, ms.Ready, ms.SharesLeft = wanted, fs, false, false
		if ms.NICs, err = b.assignNICs(s, ms); err != nil {
			return err
		}
		s.Machines[b.name] = ms
		b.state = ms
		return nil
	})
	if err != nil {
		return "", err
	}
	b.tellMoved()
	return "ssh on " + b.state.SSH().HostAddr().String(), nil
}

// leave removes what a killed create may have left at a provider that the file
// no longer names.
func (b *boot) leave(ctx context.Context, ms project.MachineState) error {
	if ms.Provider == b.machine.Provider {
		return nil
	}
	p, err := b.engine.Provider(ms.Provider)
	if err != nil {
		return err
	}
	return p.Delete(ctx, b.name)
}

// tellMoved says which forwards are not where the file wants them.
func (b *boot) tellMoved() {
	var moved []string
	for i, w := range wishes(b.machine, b.state.Spec, nil) {
		if f := b.state.Forwards[i]; w.declared != nil && f.HostPort != w.HostPort {
			moved = append(moved, fmt.Sprintf("%s is on %s instead of port %d", f.Name, f.HostAddr(), w.HostPort))
		}
	}
	if len(moved) > 0 {
		b.notice("%s", strings.Join(moved, "; "))
	}
}

// claim is a machine that host ports are chosen for.
type claim struct {
	machine  *machinefile.Machine
	spec     project.Spec
	assigned []network.Forward // earlier; hostctl's own are asked for again
	kept     []network.Forward // stay as they are: they are in force
	own      set               // held by this machine now: probing would find them taken
	lost     map[uint16]bool   // turned out to be taken though probing found them free
}

// assign chooses the host ports of one machine. The order of the result is
// that of wishes.
func (p *ports) assign(ctx context.Context, c claim, s *project.State) ([]network.Forward, error) {
	spoken := p.spokenFor(c.machine.Name, s)
	var out []network.Forward
	for _, w := range wishes(c.machine, c.spec, c.assigned) {
		if f, ok := sameWish(c.kept, w); ok && !c.lost[f.HostPort] {
			out = append(out, f)
			continue
		}
		taken := func(port uint16) bool {
			f := w.Forward
			f.HostPort = port
			return c.lost[port] || spoken.has(f) || set(out).has(f)
		}
		if c.own.has(w.Forward) && !taken(w.HostPort) {
			out = append(out, w.Forward)
			continue
		}
		if w.fixed {
			if err := p.fixed(ctx, w, taken(w.HostPort), c.machine.Name, s); err != nil {
				return nil, err
			}
			out = append(out, w.Forward)
			continue
		}
		port, err := network.NextFree(ctx, w.Forward, taken)
		if err != nil {
			return nil, fmt.Errorf("forward %q: %w", w.Name, err)
		}
		w.HostPort = port
		out = append(out, w.Forward)
	}
	return out, nil
}

// sameWish finds the forward of that name that leads to the same place.
func sameWish(fs []network.Forward, w wish) (network.Forward, bool) {
	for _, f := range fs {
		if f.Name == w.Name && f.Protocol == w.Protocol && f.HostIP == w.HostIP && f.GuestPort == w.GuestPort {
			return f, true
		}
	}
	return network.Forward{}, false
}

// fixed refuses a declared port that somebody holds.
func (p *ports) fixed(ctx context.Context, w wish, taken bool, machine string, s *project.State) error {
	err := network.Probe(ctx, w.Forward)
	_, inUse := errors.AsType[*network.InUseError](err)
	if err != nil && !inUse {
		return hint.Wrap(fmt.Errorf("forward %q: %w", w.Name, err),
			"choose another host or host_ip (%s line %d): ports below 1024 need privileges, and the address must be this host's",
			w.declared.Range.Filename, w.declared.Range.Start.Line)
	}
	if !inUse && !taken {
		return nil
	}
	advice := fmt.Sprintf("set auto_correct = true (%s line %d) to take the next free port, or choose another host port",
		w.declared.Range.Filename, w.declared.Range.Start.Line)
	for name, ms := range s.Machines {
		if name != machine && set(ms.Forwards).has(w.Forward) {
			// Perhaps this machine itself, under the name that it had.
			err = fmt.Errorf("host port %s belongs to machine %q", w.HostAddr(), name)
			advice = fmt.Sprintf("hostctl destroy %s gives it free; or %s", name, advice)
			break
		}
	}
	if err == nil {
		return nil // another machine declares it too: validation saw to that
	}
	return hint.Wrap(fmt.Errorf("forward %q: %w", w.Name, err), "%s", advice)
}

// set is forwards as host ports that are spoken for.
type set []network.Forward

func (s set) has(f network.Forward) bool {
	for _, o := range s {
		if o.Protocol == f.Protocol && o.HostPort == f.HostPort &&
			(o.HostIP == f.HostIP || o.HostIP.IsUnspecified() || f.HostIP.IsUnspecified()) {
			return true
		}
	}
	return false
}

// spokenFor lists the host ports of the other machines: what they were
// assigned, and what they insist on though they were not started with it yet.
func (p *ports) spokenFor(machine string, s *project.State) set {
	var out set
	for name, ms := range s.Machines {
		if name != machine {
			out = append(out, ms.Forwards...)
		}
	}
	for _, m := range p.machines {
		if m.Name == machine {
			continue
		}
		for _, f := range m.Forwards {
			if !f.AutoCorrect {
				out = append(out, network.Forward{Protocol: f.Protocol, HostIP: f.HostIP, HostPort: f.HostPort})
			}
		}
	}
	return out
}
