package lifecycle

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// NotCreated is the state of a machine that only the machine file knows. The
// other states are those of [provider.State].
const NotCreated provider.State = "not created"

// Unknown is the state of a machine whose status could not be found out.
const Unknown provider.State = "unknown"

// MachineStatus is one machine as status shows it.
type MachineStatus struct {
	Name       string            `json:"name"`
	Provider   string            `json:"provider"`
	State      provider.State    `json:"state"`
	Image      string            `json:"image"`
	Accel      string            `json:"accel"` // "" unless running
	SSH        *SSHAddress       `json:"ssh"`   // null before the machine is made
	DockerHost string            `json:"docker_host"`
	Forwards   []network.Forward `json:"forwards"`
	Created    time.Time         `json:"created,omitzero"` // left out before the machine is made
	// Declared is false for a machine that is gone from the machine file.
	Declared bool `json:"declared"`
}

// SSHAddress is where the guest's SSH server is reached.
type SSHAddress struct {
	Host netip.Addr `json:"host"`
	Port uint16     `json:"port"`
	User string     `json:"user"`
}

// Machine is a machine that a command can be about.
type Machine struct {
	Name     string
	Provider string
	Image    string
	Declared bool
}

// Status reports the machines, in their order. It takes no lock and changes
// nothing. Machines whose status cannot be found out are among them as
// [Unknown], and the error joins the reasons; with no machines it is about
// the whole project.
func (e *Engine) Status(ctx context.Context, machines []Machine) ([]MachineStatus, error) {
	state, err := e.Project.Load()
	if err != nil {
		return nil, err
	}
	out := make([]MachineStatus, len(machines))
	index := make([]int, len(machines))
	for i := range index {
		index[i] = i
	}
	err = each(index, func(i int) error {
		s, err := e.status(ctx, machines[i], state)
		out[i] = s
		return err
	})
	return out, err
}

func (e *Engine) status(ctx context.Context, m Machine, state *project.State) (MachineStatus, error) {
	s := MachineStatus{
		Name: m.Name, Provider: m.Provider, Image: m.Image, Declared: m.Declared,
		State: NotCreated, Forwards: []network.Forward{},
	}
	ms, ok := state.Machines[m.Name]
	if !ok {
		return s, nil
	}
	s.Provider, s.Image = ms.Provider, ms.Spec.Image
	s.State = Unknown
	p, err := e.Provider(ms.Provider)
	if err != nil {
		return s, err
	}
	status, err := p.Status(ctx, m.Name)
	if errors.Is(err, provider.ErrNotFound) {
		s.State = NotCreated
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.State, s.Accel, s.Created = status.State, status.Accel, ms.Created
	s.Forwards = slices.Clone(ms.Forwards)
	s.DockerHost = ms.DockerHost()
	if a := project.Reachable(ms.SSH().HostAddr()); a.IsValid() {
		s.SSH = &SSHAddress{Host: a.Addr(), Port: a.Port(), User: ms.Image.Guest.User}
	}
	return s, nil
}
