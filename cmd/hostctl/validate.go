package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newValidateCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the machine file",
		Long: `Reads the machine file and reports everything that is wrong in it, with the line
and what would be right. Starts nothing and needs no provider.`,
		Example: `  hostctl validate
  hostctl validate -var-file=team.hclvars`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return a.runValidate()
		},
	}
}

func (a *app) runValidate() error {
	config, err := a.config()
	if err != nil {
		return err
	}
	names := make([]string, len(config.Machines))
	for i, m := range config.Machines {
		names[i] = m.Name
	}
	if a.json() {
		return a.ui().JSON(struct {
			File     string   `json:"file"`
			Machines []string `json:"machines"`
		}{config.Path, names})
	}
	_, err = fmt.Fprintf(a.streams.out, "%s is valid: %s\n", config.Path, count(len(names), "machine"))
	return err
}

// count returns "1 machine" or "3 machines".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
