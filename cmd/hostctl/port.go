package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/network"
)

func newPortCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "port [machine] [forward|guest-port]",
		Short: "Show a machine's forwards, or the host address of one",
		Long: `Shows which host addresses lead to which guest ports. With the name of a forward
or a guest port, prints just the address to connect to, for use in scripts.`,
		Example: `  hostctl port
  hostctl port docker                # 127.0.0.1:2375, of the only machine
  hostctl port core-01 docker
  curl "http://$(hostctl port core-01 80)/"`,
		Args:              takes(0, 2),
		ValidArgsFunction: a.completePort,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.runPort(args)
		},
	}
}

func (a *app) runPort(args []string) error {
	machine, forward, err := a.portWords(args)
	if err != nil {
		return err
	}
	m, err := a.oneMachine(machine)
	if err != nil {
		return err
	}
	forwards := m.state.Forwards
	if forward != "" {
		i := slices.IndexFunc(forwards, func(f network.Forward) bool {
			return f.Name == forward || strconv.Itoa(int(f.GuestPort)) == forward
		})
		if i < 0 {
			return hint.Wrap(fmt.Errorf("machine %q has no forward %q", m.name, forward), "hostctl port %s lists them", m.name)
		}
		if a.json() {
			return a.ui().JSON(forwards[i])
		}
		_, err := fmt.Fprintln(a.streams.out, project.Reachable(forwards[i].HostAddr()))
		return err
	}
	if a.json() {
		return a.ui().JSON(forwards)
	}
	rows := make([][]string, len(forwards))
	for i, f := range forwards {
		rows[i] = []string{f.Name, f.HostAddr().String(), fmt.Sprintf("%d/%s", f.GuestPort, f.Protocol)}
	}
	return a.ui().Table([]ui.Column{{Name: "FORWARD"}, {Name: "HOST"}, {Name: "GUEST"}}, rows)
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
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
