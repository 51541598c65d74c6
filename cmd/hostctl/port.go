package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/network"
)

func newPortCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "port [machine] [forward|guest-port|container]",
		Short: "Show a machine's forwards, or the host address of one",
		Long: `Shows which host addresses lead to which guest ports, and to the ports that
running containers publish. With the name of a forward, a guest port, or the name
of a container that publishes one port, prints just the address to connect to,
for use in scripts.`,
		Example: `  hostctl port
  hostctl port docker                # 127.0.0.1:2375, of the only machine
  hostctl port core-01 docker
  hostctl port web                   # the port that the container web publishes
  hostctl port web:80/tcp            # its port 80, where it publishes several
  curl "http://$(hostctl port core-01 80)/"`,
		Args:              takes(0, 2),
		ValidArgsFunction: a.completePort,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runPort(cmd.Context(), args)
		},
	}
}

func (a *app) runPort(ctx context.Context, args []string) error {
	machine, forward, err := a.portWords(args)
	if err != nil {
		return err
	}
	if forward != "" {
		m, err := a.oneMachine(machine)
		if err != nil {
			return err
		}
		a.withAgent(ctx, m)
		return a.showPort(m, a.carried(ctx, m.project)[m.name].Published, forward)
	}
	machines, err := a.portMachines(machine)
	if err != nil {
		return err
	}
	return a.showPorts(ctx, machines)
}

// portMachines returns the machine that is named, or all that were made; not one is
// an error.
func (a *app) portMachines(named []string) ([]*one, error) {
	names := named
	if len(names) == 0 {
		p, err := a.project()
		if err != nil {
			return nil, err
		}
		state, err := p.Load()
		if err != nil {
			return nil, err
		}
		names = created(state)
	}
	if len(names) < 2 {
		m, err := a.oneMachine(names)
		return []*one{m}, err
	}
	machines := make([]*one, len(names))
	for i, name := range names {
		var err error
		if machines[i], err = a.oneMachine([]string{name}); err != nil {
			return nil, err
		}
	}
	return machines, nil
}

// showPorts lists the forwards of machines and what their containers publish. With
// -o json, published ports say more than forwards do.
func (a *app) showPorts(ctx context.Context, machines []*one) error {
	type forward struct {
		Machine string `json:"machine"`
		network.Forward
	}
	type published struct {
		Machine string `json:"machine"`
		agent.Published
	}
	all := []any{}
	rows := [][]string{}
	add := func(row ...string) {
		if len(machines) == 1 {
			row = row[1:]
		}
		rows = append(rows, row)
	}
	for _, m := range machines {
		a.withAgent(ctx, m)
	}
	carried := a.carried(ctx, machines[0].project)
	for _, m := range machines {
		for _, f := range m.state.Forwards {
			all = append(all, forward{m.name, f})
			add(m.name, f.Name, f.HostAddr().String(), guestText(f))
		}
		for _, p := range carried[m.name].Published {
			if p.Error != "" {
				a.ui().Warn("%s: %s", p.Name, p.Error)
			}
			all = append(all, published{m.name, p})
			add(m.name, p.Name, publishedHost(p), guestText(p.Forward.Forward))
		}
	}
	if a.json() {
		return a.ui().JSON(all)
	}
	columns := []ui.Column{{Name: "MACHINE"}, {Name: "FORWARD"}, {Name: "HOST"}, {Name: "GUEST"}}
	if len(machines) == 1 {
		columns = columns[1:]
	}
	return a.ui().Table(columns, rows)
}

func guestText(f network.Forward) string { return fmt.Sprintf("%d/%s", f.GuestPort, f.Protocol) }

// showPort prints the forward, or else the published port, of that name or guest
// port, or else the only one of the container of that name.
func (a *app) showPort(m *one, published []agent.Published, word string) error {
	meant := func(f network.Forward) bool {
		return f.Name == word || strconv.Itoa(int(f.GuestPort)) == word
	}
	if i := slices.IndexFunc(m.state.Forwards, meant); i >= 0 {
		f := m.state.Forwards[i]
		return a.showAddress(f, f)
	}
	if i := slices.IndexFunc(published, func(p agent.Published) bool { return meant(p.Forward.Forward) }); i >= 0 {
		return a.showPublished(m, published[i])
	}
	var ofContainer []string
	var only agent.Published
	for _, p := range published {
		if p.Container == word {
			ofContainer, only = append(ofContainer, p.Name), p
		}
	}
	switch len(ofContainer) {
	case 0:
		return hint.Wrap(fmt.Errorf("machine %q has no forward %q", m.name, word), "hostctl port %s lists them", m.name)
	case 1:
		return a.showPublished(m, only)
	}
	return hint.Wrap(fmt.Errorf("machine %q: container %q publishes %s", m.name, word, count(len(ofContainer), "port")),
		"name one of them: %s", strings.Join(ofContainer, ", "))
}

func (a *app) showPublished(m *one, p agent.Published) error {
	if p.Error != "" {
		return fmt.Errorf("machine %q: %s is not forwarded: %s", m.name, p.Name, p.Error)
	}
	return a.showAddress(p.Forward.Forward, p)
}

// showAddress prints where f is reached; with -o json, whole.
func (a *app) showAddress(f network.Forward, whole any) error {
	if a.json() {
		return a.ui().JSON(whole)
	}
	_, err := fmt.Fprintln(a.streams.out, project.Reachable(f.HostAddr()))
	return err
}

// portWords tells the machine from the forward. Where there is one machine, a
// single word that is not its name is a forward's.
func (a *app) portWords(args []string) (machine []string, forward string, err error) {
	if len(args) == 2 {
		return args[:1], args[1], nil
	}
	if len(args) == 0 {
		return nil, "", nil
	}
	p, err := a.project()
	if err != nil {
		return nil, "", err
	}
	state, err := p.Load()
	if err != nil {
		return nil, "", err
	}
	known := created(state)
	// A machine file that is being edited has no say in this.
	if config, err := a.config(); err == nil {
		for _, m := range config.Machines {
			known = append(known, m.Name)
		}
	}
	slices.Sort(known)
	known = slices.Compact(known)
	if len(known) == 1 && known[0] != args[0] {
		return known, args[0], nil
	}
	return args, "", nil
}

func (a *app) completePort(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return a.completeMachine(cmd, args, prefix)
	}
	var names []string
	if m, err := a.oneMachine(args); err == nil {
		for _, f := range m.state.Forwards {
			names = append(names, f.Name)
		}
		for _, p := range a.carried(cmd.Context(), m.project)[m.name].Published {
			names = append(names, p.Name)
		}
	}
	// bash evaluates completions, and a state can be somebody else's.
	names = slices.DeleteFunc(names, func(n string) bool { return !plainWord.MatchString(n) })
	return names, cobra.ShellCompDirectiveNoFileComp
}

// plainWord has nothing in it that is special to a shell.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:/-]*$`)
