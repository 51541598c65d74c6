package main

import (
	"github.com/spf13/cobra"
)

func newShareCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "share",
		Short: "Show the folders that machines share with this computer",
		Args:  unknownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Example: `  hostctl share list
  hostctl share status core-01`,
	}
	cmd.AddCommand(newShareListCmd(a), newShareStatusCmd(a), newShareSudoersCmd(a))
	return cmd
}
