package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/lifecycle"
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
			return a.boot(cmd.Context(), "reload", args, timeout, (*lifecycle.Engine).Reload)
		},
	}
	addTimeout(cmd, &timeout)
	return cmd
}
