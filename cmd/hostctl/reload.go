package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func newReloadCmd(a *app) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "reload [machine...]",
		Short: "Restart machines so that they follow the machine file again",
		Long: `Shuts the named machines down, or all of the machine file, and boots them as
the machine file describes them now: cpus, memory, a larger disk, forwards.
Their disks are kept.`,
		Example: `  hostctl reload
  hostctl reload core-01`,
		ValidArgsFunction: a.completeMachines,
		SuggestFor:        []string{"restart", "reboot"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runReload(cmd.Context(), args, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "wait this `DURATION` for each guest's SSH and Docker (default 3m, emulated 10m)")
	return cmd
}

func (a *app) runReload(ctx context.Context, names []string, timeout time.Duration) error {
	if err := checkTimeout(timeout); err != nil {
		return err
	}
	p, config, machines, err := a.selected(names)
	if err != nil {
		return err
	}
	if len(machines) == 0 {
		a.ui().Notice("%v: nothing to restart", errNoMachines)
		return nil
	}
	e := a.engine(p, "reload")
	e.Timeout = timeout
	return e.Reload(ctx, machines, config.Machines)
}
