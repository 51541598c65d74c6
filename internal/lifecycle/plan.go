package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	units "github.com/docker/go-units"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// Action is what up has to do with a machine, or what a change takes.
type Action string

// Actions, from the least to the greatest.
const (
	// NoAction: the machine runs as the file says, or the file does not know it.
	NoAction Action = "none"
	// CreateAction makes a machine that does not exist.
	CreateAction Action = "create"
	// StartAction boots a machine that is down. It takes every change on but
	// those that need a new machine.
	StartAction Action = "start"
	// UpdateAction changes a running machine in place.
	UpdateAction Action = "update"
	// RestartAction shuts a running machine down and boots it again.
	RestartAction Action = "restart"
	// ReplaceAction destroys a machine, with all data on its disk, and makes it
	// anew.
	ReplaceAction Action = "replace"
)

// rank orders actions: a machine's is the greatest that its changes take.
func (a Action) rank() int {
	return slices.Index([]Action{NoAction, CreateAction, StartAction, UpdateAction, RestartAction, ReplaceAction}, a)
}

// disturbs reports whether the user of the machine notices: then up asks.
func (a Action) disturbs() bool { return a == RestartAction || a == ReplaceAction }

// Change is a value of the machine file that a machine does not follow.
type Change struct {
	// Field is the machine file's attribute: "image", "provider", "cpus",
	// "memory", "disk", "accel", "docker port", "docker insecure", "nat" or
	// "publish_ports";
	// "forward NAME", "network NAME" or "share NAME" for one of those; "machine" for one that
	// is made, all at once.
	Field string `json:"field"`
	From  string `json:"from"` // "": nothing, or unset
	To    string `json:"to"`
	Takes Action `json:"takes"`
}

// String returns "memory from 1GiB to 2GiB".
func (c Change) String() string {
	return fmt.Sprintf("%s from %s to %s", c.Field, orUnset(c.From), orUnset(c.To))
}

// pending says what becomes of a change that was not agreed to.
func (c Change) pending() string {
	how := "with a restart"
	if c.Takes == ReplaceAction {
		how = "by making the machine anew, without its data"
	}
	return fmt.Sprintf("%s changed from %s to %s; hostctl up --yes applies it %s", c.Field, orUnset(c.From), orUnset(c.To), how)
}

// MachinePlan is what up would do with one machine.
type MachinePlan struct {
	Name     string         `json:"name"`
	Provider string         `json:"provider"` // of a machine that exists, the one it is at
	State    provider.State `json:"state"`
	Action   Action         `json:"action"`
	// Declared is false for a machine that is gone from the machine file. up
	// leaves it alone.
	Declared bool     `json:"declared"`
	Changes  []Change `json:"changes"`
	// Problems are what up would refuse before it makes anything.
	Problems []Problem `json:"problems"`
}

// Plan says what [Engine.Up] would do, and changes nothing. all is the whole
// machine file; when machines are all of it, those that only the state knows
// come last. What up would refuse is among the plans' problems, not an error.
func (e *Engine) Plan(ctx context.Context, machines, all []*machinefile.Machine) ([]MachinePlan, error) {
	state, err := e.Project.Load()
	if err != nil {
		return nil, err
	}
	if err := e.checkLibvirt(state); err != nil {
		return nil, err
	}
	undeclared := e.undeclared(state, all)
	if len(machines) < len(all) {
		undeclared = nil
	}
	out := make([]MachinePlan, len(machines)+len(undeclared))
	index := make([]int, len(out))
	for i := range index {
		index[i] = i
	}
	err = each(index, func(i int) error {
		if i < len(machines) {
			m := machines[i]
			ms := state.Machines[m.Name]
			s, err := e.stateOf(ctx, m.Name, ms)
			out[i] = planOf(m, ms, s)
			return err
		}
		name := undeclared[i-len(machines)]
		ms := state.Machines[name]
		s, err := e.stateOf(ctx, name, ms)
		out[i] = MachinePlan{Name: name, Provider: ms.Provider, State: s, Action: NoAction, Changes: []Change{}, Problems: []Problem{}}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := e.foresee(ctx, out[:len(machines)], machines, all, state); err != nil {
		return nil, err
	}
	return out, nil
}

// undeclared lists the machines that only the state knows, sorted.
func (e *Engine) undeclared(state *project.State, all []*machinefile.Machine) []string {
	declared := make(map[string]bool, len(all))
	for _, m := range all {
		declared[m.Name] = true
	}
	var out []string
	for name := range state.Machines {
		if !declared[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// stateOf asks the provider that the machine is at. The zero MachineState is a
// machine that was never made.
func (e *Engine) stateOf(ctx context.Context, name string, ms project.MachineState) (provider.State, error) {
	if ms.Provider == "" {
		return NotCreated, nil
	}
	p, err := e.Provider(ms.Provider)
	if err != nil {
		return Unknown, err
	}
	status, err := p.Status(ctx, name)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		return NotCreated, nil
	case err != nil:
		return Unknown, err
	}
	return status.State, nil
}

// planOf compares a machine of the file with what was made of it.
func planOf(m *machinefile.Machine, ms project.MachineState, state provider.State) MachinePlan {
	wanted := specOf(m)
	p := MachinePlan{Name: m.Name, Provider: ms.Provider, State: state, Action: NoAction, Declared: true, Changes: []Change{}, Problems: []Problem{}}
	switch state {
	case NotCreated:
		p.Provider, p.Action = m.Provider, CreateAction
		p.Changes = []Change{{Field: "machine", To: summary(wanted), Takes: CreateAction}}
		return p
	case provider.Stopped:
		p.Action = StartAction
	}
	p.Changes = changes(m, ms, wanted)
	for i, c := range p.Changes {
		if state == provider.Stopped && c.Takes.rank() < ReplaceAction.rank() {
			c.Takes = StartAction
			p.Changes[i] = c
		}
		if c.Takes.rank() > p.Action.rank() {
			p.Action = c.Takes
		}
	}
	return p
}

func summary(s project.Spec) string {
	return fmt.Sprintf("%s, %s, %s, disk of %s", s.Image, cpusText(s.CPUs), bytesText(s.Memory), bytesText(s.Disk))
}

func cpusText(n int) string {
	if n == 1 {
		return "1 cpu"
	}
	return fmt.Sprintf("%d cpus", n)
}

// changes lists what the file asks for and the machine does not follow, as if
// it were running, in the order of the file's documentation.
func changes(m *machinefile.Machine, ms project.MachineState, wanted project.Spec) []Change {
	applied := ms.Spec
	out := []Change{}
	differ := func(field, from, to string, takes Action) {
		if from != to {
			out = append(out, Change{Field: field, From: from, To: to, Takes: takes})
		}
	}
	disk := RestartAction
	if wanted.Disk < applied.Disk {
		disk = ReplaceAction // a file system in use is not made smaller
	}
	differ("provider", ms.Provider, m.Provider, ReplaceAction)
	differ("image", applied.Image, wanted.Image, ReplaceAction)
	differ("cpus", fmt.Sprint(applied.CPUs), fmt.Sprint(wanted.CPUs), RestartAction)
	differ("memory", bytesText(applied.Memory), bytesText(wanted.Memory), RestartAction)
	differ("disk", bytesText(applied.Disk), bytesText(wanted.Disk), disk)
	differ("accel", applied.Accel, wanted.Accel, RestartAction)
	// Ignition wrote these into the guest, at its first boot and never again.
	differ("nat", fmt.Sprint(!applied.NoNAT), fmt.Sprint(!wanted.NoNAT), ReplaceAction)
	for _, name := range names(applied.Networks, wanted.Networks, func(n project.NetworkSpec) string { return n.Name }) {
		from, have := networkCalled(applied.Networks, name)
		to, want := networkCalled(wanted.Networks, name)
		takes := ReplaceAction
		if have && want && !from.CIDR.IsValid() && !to.CIDR.IsValid() {
			if stillWanted(ms, to) {
				continue
			}
			takes = RestartAction
		}
		differ("network "+name, networkText(from, have), networkText(to, want), takes)
	}
	differ("docker port", portText(applied.DockerPort), portText(wanted.DockerPort), ReplaceAction)
	if bridged(applied) && bridged(wanted) {
		differ("docker insecure", fmt.Sprint(applied.DockerInsecure), fmt.Sprint(wanted.DockerInsecure), ReplaceAction)
	}
	if wanted.DockerPort != 0 {
		differ("publish_ports", fmt.Sprint(applied.PublishPorts), fmt.Sprint(wanted.PublishPorts), UpdateAction)
	}
	for _, name := range names(applied.Forwards, wanted.Forwards, func(f network.Forward) string { return f.Name }) {
		differ("forward "+name, forwardText(applied.Forwards, name), forwardText(wanted.Forwards, name), UpdateAction)
	}
	for _, name := range names(applied.Shares, wanted.Shares, func(s project.ShareSpec) string { return s.Name }) {
		from, to := shareTexts(applied.Shares, wanted.Shares, name)
		differ("share "+name, from, to, UpdateAction)
	}
	return out
}

// stillWanted reports whether the interface that a bridged network is on is
// one that the file names now.
func stillWanted(ms project.MachineState, n project.NetworkSpec) bool {
	for _, nic := range ms.NICs {
		if nic.Network == n.Name {
			_, err := network.ChooseInterface(n.Interfaces, []network.Interface{{Name: nic.Interface}})
			return err == nil
		}
	}
	return false
}

// names returns the names in a, then those that only b has.
func names[T any](a, b []T, name func(T) string) []string {
	var out []string
	seen := make(map[string]bool, len(a)+len(b))
	for _, list := range [][]T{a, b} {
		for _, x := range list {
			if n := name(x); !seen[n] {
				seen[n] = true
				out = append(out, n)
			}
		}
	}
	return out
}

func orUnset(s string) string {
	if s == "" {
		return "unset"
	}
	return s
}

func bytesText(n uint64) string {
	if n == 0 {
		return ""
	}
	return units.BytesSize(float64(n))
}

func portText(p uint16) string {
	if p == 0 {
		return ""
	}
	return fmt.Sprint(p)
}

func forwardText(fs []network.Forward, name string) string {
	for _, f := range fs {
		if f.Name == name {
			return f.String()
		}
	}
	return ""
}

func networkText(n project.NetworkSpec, on bool) string {
	switch {
	case !on:
		return ""
	case n.CIDR.IsValid() && n.Address.IsValid():
		return fmt.Sprintf("%s in %s", n.Address, n.CIDR)
	case n.CIDR.IsValid():
		return n.CIDR.String()
	case len(n.Interfaces) > 0:
		return "bridged to " + strings.Join(n.Interfaces, " or ")
	default:
		return "bridged"
	}
}
