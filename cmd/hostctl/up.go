package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
)

func newUpCmd(a *app) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "up [machine...]",
		Short: "Boot machines and wait until Docker answers",
		Long: `Boots the named machines, or all of the machine file, in parallel, and returns
when Docker answers in each through the address that hostctl env prints.

Machines that are up are left alone. What was interrupted goes on where it
was: run up again.`,
		Example: `  hostctl up
  hostctl up core-01 core-02
  hostctl up -o json | jq -r .message`,
		ValidArgsFunction: a.completeMachines,
		SuggestFor:        []string{"start", "boot", "create"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runUp(cmd.Context(), args, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "wait this `DURATION` for each guest's SSH and Docker (default 3m, emulated 10m)")
	return cmd
}

func (a *app) runUp(ctx context.Context, names []string, timeout time.Duration) error {
	if err := checkTimeout(timeout); err != nil {
		return err
	}
	p, config, machines, err := a.selected(names)
	if err != nil {
		return err
	}
	if len(machines) == 0 {
		a.ui().Notice("%v: nothing to boot", errNoMachines)
		return nil
	}
	e := a.engine(p, "up")
	e.Timeout = timeout
	return e.Up(ctx, machines, config.Machines)
}

// checkTimeout refuses what cannot be waited for; 0 stands for the default.
func checkTimeout(d time.Duration) error {
	if d < 0 {
		return &usageError{fmt.Errorf("--timeout %v: not a time to wait", d)}
	}
	return nil
}

// selected loads the machine file and chooses machines from it.
func (a *app) selected(names []string) (*project.Project, *machinefile.Config, []*machinefile.Machine, error) {
	config, err := a.config()
	if err != nil {
		return nil, nil, nil, err
	}
	machines, err := choose(config, names)
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := project.Open(config.Dir, a.dirs())
	return p, config, machines, err
}
