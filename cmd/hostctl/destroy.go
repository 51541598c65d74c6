package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
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
	return a.engine(p, "destroy").Destroy(ctx, names)
}
