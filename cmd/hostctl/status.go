package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
)

func newStatusCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status [machine...]",
		Short: "Show the project's machines and where they are reached",
		Long: `Shows the named machines, or all: those of the machine file, and those that were
made from an earlier version of it. With -o json, an array of objects.`,
		Example: `  hostctl status
  hostctl status -o json | jq -r '.[] | select(.state == "running") | .docker_host'`,
		ValidArgsFunction: a.completeMachines,
		SuggestFor:        []string{"ls", "list", "ps"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runStatus(cmd.Context(), args)
		},
	}
}

func (a *app) runStatus(ctx context.Context, names []string) error {
	// A file that is being edited is no reason not to say what runs.
	config, invalid := a.config()
	if invalid != nil {
		config = &machinefile.Config{}
	}
	p, err := a.project()
	if err != nil {
		return err
	}
	state, err := p.Load()
	if err != nil {
		return err
	}
	if invalid != nil && len(state.Machines) == 0 {
		return invalid
	}
	var machines []lifecycle.Machine
	var known []string
	for _, m := range config.Machines {
		known = append(known, m.Name)
		machines = append(machines, lifecycle.Machine{Name: m.Name, Provider: m.Provider, Image: m.Image.Source, Declared: true})
	}
	for _, name := range created(state) {
		if !slices.Contains(known, name) {
			known = append(known, name)
			machines = append(machines, lifecycle.Machine{Name: name, Declared: invalid != nil})
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return unknownMachine(name, known)
		}
	}
	machines = slices.DeleteFunc(machines, func(m lifecycle.Machine) bool {
		return len(names) > 0 && !slices.Contains(names, m.Name)
	})
	statuses, err := a.statuses(ctx, p, "status", machines)
	if statuses == nil {
		return err
	}
	// One machine that is out of order does not hide the others.
	err = errors.Join(a.showStatus(statuses), err)
	a.warnOfAgent(ctx, p, statuses)
	if err != nil {
		return err
	}
	return invalid
}

// machineStatus is a machine with the ports that its containers publish, and
// with its shares.
type machineStatus struct {
	lifecycle.MachineStatus
	Published []agent.Published `json:"published"`
	Shares    []machineShare    `json:"shares"`
}

// machineShare is a share that a machine was given. Error is what is wrong with its
// folder, or why the agent does not serve or mirror it, and Hint what mends that; ""
// also for a share that it has nothing to do with: whether the guest has it, hostctl
// share status says.
type machineShare struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Host  string `json:"host"`
	Guest string `json:"guest"`
	// Mirror is how the agent keeps the guest's copy; nil: it keeps none.
	Mirror *agent.Mirror `json:"mirror,omitempty"`
	// Notice is why programs in the guest do not learn at once of changes here.
	Notice string `json:"notice,omitempty"`
	Error  string `json:"error,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// shareGiven is a share of which the agent says nothing.
func shareGiven(s project.ShareSpec) machineShare {
	return machineShare{Name: s.Name, Type: s.Type, Host: s.Host, Guest: s.Guest}
}

// shareOf says how the agent keeps a share of a machine that runs. hostErr is what
// is wrong with its folder.
func shareOf(name string, ms project.MachineState, s project.ShareSpec, hostErr error, by agent.MachineStatus, agentErr error) machineShare {
	m := shareGiven(s)
	switch {
	case s.Embedded():
		m.Error = unserved(s, by, agentErr)
		if found := served(s, by); found != nil {
			m.Notice = found.Notice
		}
	case s.Mirrored() && slices.ContainsFunc(ms.Mounted, func(t project.ShareSpec) bool { return t.Mirrored() && t.Name == s.Name }):
		m.Mirror, m.Error = kept(s, by), unkept(s, by, agentErr)
	default:
		return m
	}
	switch {
	case hostErr != nil: // which no agent mends
		m.Error, m.Hint = hostErr.Error(), mendsFolder(name, s.Mirrored(), hostErr)
	case m.Error != "":
		m.Hint = mends(name, m.Mirror)
	}
	return m
}

// ofAgent reports whether a share is the agent's to keep.
func ofAgent(s project.ShareSpec) bool { return s.Embedded() || s.Mirrored() }

// statuses looks at machines for command, and at what the agent does for them.
func (a *app) statuses(ctx context.Context, p *project.Project, command string, machines []lifecycle.Machine) ([]machineStatus, error) {
	found, err := a.engine(p, command).Status(ctx, machines)
	if found == nil {
		return nil, err
	}
	state, loadErr := p.Load()
	if loadErr != nil {
		return nil, loadErr
	}
	patience := agentTimeout
	for _, ms := range state.Machines {
		if slices.ContainsFunc(ms.Spec.Shares, ofAgent) {
			patience = agentPatience // the answer matters
		}
	}
	for _, s := range found {
		for _, share := range state.Machines[s.Name].Spec.Shares {
			if s.State == provider.Running && ofAgent(share) {
				a.folders.Begin(share.Host)
			}
		}
	}
	serving, agentErr := a.agentStatus(ctx, p, patience)
	out := make([]machineStatus, len(found))
	for i, s := range found {
		out[i] = machineStatus{s, []agent.Published{}, []machineShare{}}
		carried := serving.Machines[s.Name]
		running := s.State == provider.Running
		// The agent notices a moment later that a machine is down.
		if running {
			out[i].Published = append(out[i].Published, carried.Published...)
		}
		for _, share := range state.Machines[s.Name].Spec.Shares {
			m := shareGiven(share)
			if running {
				var hostErr error
				if ofAgent(share) {
					hostErr = a.folders.At(ctx, share.Host)
				}
				m = shareOf(s.Name, state.Machines[s.Name], share, hostErr, carried, agentErr)
			}
			out[i].Shares = append(out[i].Shares, m)
		}
	}
	return out, err
}

// warnOfAgent says that the agent is not there where machines need it.
func (a *app) warnOfAgent(ctx context.Context, p *project.Project, statuses []machineStatus) {
	if !slices.ContainsFunc(statuses, func(s machineStatus) bool { return s.State == provider.Running }) {
		return
	}
	client := a.agent(p, a.providers(p))
	_, err := a.agentStatus(ctx, p, agentPatience)
	switch {
	case err == nil:
	case !errors.Is(err, agent.ErrNotRunning):
		a.ui().Warn("the project's agent does not answer: hostctl up replaces it")
	default:
		if needed, err := client.Needed(ctx); err == nil && needed {
			a.ui().Warn("the project's agent does not run: published ports, shares and forwards that it carries are not reached; hostctl up starts it")
		}
	}
}

func (a *app) showStatus(statuses []machineStatus) error {
	if a.json() {
		return a.ui().JSON(statuses)
	}
	rows := make([][]string, len(statuses))
	for i, s := range statuses {
		rows[i] = statusRow(s)
	}
	err := a.ui().Table(statusColumns(), rows)
	for _, s := range statuses {
		for _, share := range s.Shares {
			if share.Notice != "" {
				a.ui().Warn("%s: share %q: %s", s.Name, share.Name, share.Notice)
			}
		}
	}
	return err
}

func statusColumns() []ui.Column {
	return []ui.Column{
		{Name: "NAME"},
		{Name: "PROVIDER"},
		{Name: "STATE", Tone: stateTone},
		{Name: "SSH"},
		{Name: "DOCKER"},
		{Name: "FORWARDS"},
		{Name: "PUBLISHED"},
		{Name: "SHARES"},
	}
}

func stateTone(state string) ui.Tone {
	if state == string(provider.Running) {
		return ui.Good
	}
	return ui.Faint
}

func statusRow(s machineStatus) []string {
	row := []string{s.Name, s.Provider, string(s.State), "-", "-", "-", "-", "-"}
	if s.SSH != nil {
		row[3] = sshText(s)
	}
	if s.DockerHost != "" {
		row[4] = s.DockerHost
	}
	if text := otherForwards(s); text != "" {
		row[5] = text
	}
	if text := publishedText(s.Published); text != "" {
		row[6] = text
	}
	if text := sharesText(s.Shares); text != "" {
		row[7] = text
	}
	if !s.Declared {
		row[2] += " (not in the machine file)"
	}
	return row
}

func sshText(s machineStatus) string {
	return netip.AddrPortFrom(s.SSH.Host, s.SSH.Port).String()
}

// otherForwards lists the forwards beside ssh's and docker's, which have
// columns of their own.
func otherForwards(s machineStatus) string {
	var texts []string
	for _, f := range s.Forwards {
		if f.Name != project.SSHForward && "tcp://"+project.Reachable(f.HostAddr()).String() != s.DockerHost {
			texts = append(texts, f.Name+" "+f.String())
		}
	}
	return strings.Join(texts, ", ")
}

// publishedText lists where containers' ports are on this host.
func publishedText(ports []agent.Published) string {
	var texts []string
	for _, p := range ports {
		texts = append(texts, p.Name+" "+publishedHost(p))
	}
	return strings.Join(texts, ", ")
}

// sharesText lists where the guest has shares, and those that are not served.
func sharesText(shares []machineShare) string {
	var texts []string
	for _, s := range shares {
		text := s.Guest
		switch {
		case s.Error == "":
		case s.Type == string(machinefile.SFTP):
			text += " (not mirrored)"
		default:
			text += " (not served)"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// publishedHost is where a container's port is reached, "-" where it is not. Another
// program may answer on the port of that number, or the user may not have it.
func publishedHost(p agent.Published) string {
	if p.Error != "" {
		return "-"
	}
	text := project.Reachable(p.HostAddr()).String()
	if p.Moved {
		text += fmt.Sprintf(" (instead of %d)", p.GuestPort)
	}
	return text
}
