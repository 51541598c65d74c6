package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/network"
)

func newPortCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "port [machine] [forward|guest-port]",
		Short: "Show a machine's forwards, or the host address of one",
		Long: `Shows which host addresses lead to which guest ports. With the name of a forward
or a guest port, prints just that host address, for use in scripts.`,
		Example: `  hostctl port
  hostctl port core-01 docker        # 127.0.0.1:2375
  curl "http://$(hostctl port core-01 80)/"`,
		Args:              takes(0, 2),
		ValidArgsFunction: a.completePort,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.runPort(args)
		},
	}
}

func (a *app) runPort(args []string) error {
	m, err := a.oneMachine(args)
	if err != nil {
		return err
	}
	forwards := m.state.Forwards
	if len(args) == 2 {
		i := slices.IndexFunc(forwards, func(f network.Forward) bool {
			return f.Name == args[1] || strconv.Itoa(int(f.GuestPort)) == args[1]
		})
		if i < 0 {
			return hint.Wrap(fmt.Errorf("machine %q has no forward %q", m.name, args[1]), "hostctl port %s lists them", m.name)
		}
		if a.json() {
			return a.ui().JSON(forwards[i])
		}
		_, err := fmt.Fprintln(a.streams.out, forwards[i].HostAddr())
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
