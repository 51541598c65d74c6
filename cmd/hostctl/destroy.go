package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
)

func newDestroyCmd(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "destroy [machine...]",
		Short: "Remove machines with their disks",
		Long: `Powers the named machines off, or all, and removes their disks and everything
else hostctl keeps for them. Images stay in the cache. Asks first.`,
		Example: `  hostctl destroy
  hostctl destroy --yes core-02`,
		ValidArgsFunction: a.completeMachines,
		SuggestFor:        []string{"rm", "remove", "delete"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runDestroy(cmd.Context(), args, yes)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) runDestroy(ctx context.Context, names []string, yes bool) error {
	p, err := a.project()
	if err != nil {
		return err
	}
	all := len(names) == 0
	names, err = a.made(p, names)
	if err != nil {
		return err
	}
	// A project without machines may still hold what an interrupted command
	// left: its state directory.
	if len(names) == 0 && !p.Exists() {
		a.ui().Notice("no machine was made here: nothing to destroy")
		return nil
	}
	state, err := p.Load()
	if err != nil {
		return err
	}
	lost := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, ok := state.Machines[name]
		return !ok
	})
	if len(lost) == len(state.Machines) {
		// With the last machine go those that the state does not know any more.
		dirs, err := p.MachineDirs()
		if err != nil {
			return err
		}
		lost = slices.Concat(lost, dirs)
		slices.Sort(lost)
		lost = slices.Compact(lost)
	}
	if !yes && len(lost) > 0 {
		what := strings.Join(lost, ", ")
		if all && len(lost) > 1 {
			what = fmt.Sprintf("all %d machines (%s)", len(lost), what)
		}
		ok, err := a.ui().Confirm(ctx, fmt.Sprintf("destroy %s with all data on its disk?", what))
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("nothing was destroyed")
		}
	}
	e := a.engine(p, "destroy")
	e.Providers = a.inUse(state)
	return e.Destroy(ctx, names)
}

// inUse names the providers that may have something of the project. libvirt's
// may not even be installed: it is asked where the state says that machines
// are, or where the state was lost and the machine file says that they may be.
func (a *app) inUse(state *project.State) []string {
	names := []string{machinefile.QEMUProvider}
	used := state.LibvirtURI != ""
	if len(state.Machines) == 0 {
		if config, err := a.config(); err == nil {
			used = used || slices.ContainsFunc(config.Machines, func(m *machinefile.Machine) bool { return m.Provider == machinefile.LibvirtProvider })
		}
	}
	if used {
		names = append(names, machinefile.LibvirtProvider)
	}
	return names
}
