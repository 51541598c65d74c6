package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
)

func newHaltCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "halt [machine...]",
		Short: "Shut machines down in order; their disks are kept",
		Long: `Asks the guests of the named machines, or of all, to shut down, and waits for
it. A guest that does not within its grace period is powered off.`,
		Example: `  hostctl halt
  hostctl halt core-02`,
		ValidArgsFunction: a.completeMachines,
		SuggestFor:        []string{"stop", "down", "suspend", "shutdown", "poweroff"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runHalt(cmd.Context(), args)
		},
	}
}

func (a *app) runHalt(ctx context.Context, names []string) error {
	p, err := a.project()
	if err != nil {
		return err
	}
	names, err = a.made(p, names)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		a.ui().Notice("no machine was made here: nothing to halt")
		return nil
	}
	err = a.engine(p, "halt").Halt(ctx, names)
	if ctx.Err() != nil && p.Exists() {
		return hint.Wrap(err, "guests that were asked to shut down may still do so: hostctl status shows them, hostctl halt waits for them")
	}
	return err
}
