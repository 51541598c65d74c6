package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/machinefile"
)

func newUpCmd(a *app) *cobra.Command {
	var (
		timeout time.Duration
		yes     bool
	)
	cmd := &cobra.Command{
		Use:   "up [machine...]",
		Short: "Boot machines and wait until Docker answers",
		Long: `Boots the named machines, or all of the machine file, in parallel, and returns
when Docker answers in each through the address that hostctl env prints.

Machines that are up follow what changed in the machine file: at once where they
can, such as forwards. A change that needs a restart, or a new machine, is asked
about; hostctl plan shows it beforehand. What was interrupted goes on where it
was: run up again.`,
		Example: `  hostctl up
  hostctl up core-01 core-02
  hostctl up --yes
  hostctl up -o json | jq -r '.error // .message // empty'`,
		ValidArgsFunction: a.completeMachines,
		SuggestFor:        []string{"start", "boot", "create"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.boot(cmd.Context(), "up", args, timeout, func(e *lifecycle.Engine, ctx context.Context, machines, all []*machinefile.Machine) error {
				e.Yes, e.Confirm = yes, a.confirm
				return e.Up(ctx, machines, all)
			})
		},
	}
	addTimeout(cmd, &timeout)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before restarts and replacements")
	return cmd
}

func addTimeout(cmd *cobra.Command, timeout *time.Duration) {
	cmd.Flags().DurationVar(timeout, "timeout", 0, "wait this `DURATION` for each guest's SSH and Docker (default 3m, emulated 10m)")
}

// boot runs an operation that ends with machines that are up.
func (a *app) boot(ctx context.Context, command string, names []string, timeout time.Duration,
	operation func(e *lifecycle.Engine, ctx context.Context, machines, all []*machinefile.Machine) error) error {
	if timeout < 0 {
		return &usageError{fmt.Errorf("--timeout %v: not a time to wait", timeout)}
	}
	p, config, machines, err := a.selected(names)
	if err != nil {
		return err
	}
	if len(machines) == 0 {
		a.ui().Notice("%v: nothing to boot", errNoMachines)
		return nil
	}
	e := a.engine(p, command)
	e.Timeout, e.Choose = timeout, a.choose
	if e.Libvirt, err = a.libvirtFor(p, config); err != nil {
		return err
	}
	err = operation(e, ctx, machines, config.Machines)
	if ctx.Err() != nil && p.Exists() {
		return hint.Wrap(err, "machines that were started go on booting: hostctl up waits for them, hostctl halt ends them")
	}
	return err
}

// confirm asks where there is somebody to ask; nobody agrees to nothing.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	ok, err := a.ui().Confirm(ctx, question)
	if errors.Is(err, ui.ErrNotTerminal) {
		return false, nil
	}
	return ok, err
}

// libvirtFor is where the file's libvirt machines are made.
func (a *app) libvirtFor(p *project.Project, config *machinefile.Config) (machinefile.Libvirt, error) {
	l := config.Libvirt
	if !slices.ContainsFunc(config.Machines, func(m *machinefile.Machine) bool { return m.Provider == machinefile.LibvirtProvider }) {
		return l, nil
	}
	uri, pool, err := a.libvirt(p)
	l.URI, l.Pool = cmp.Or(l.URI, uri), cmp.Or(l.Pool, pool)
	return l, err
}

// choose asks for one of several options where there is somebody to ask.
func (a *app) choose(ctx context.Context, question string, options []string) (int, error) {
	i, err := a.ui().Choose(ctx, question, options)
	if errors.Is(err, ui.ErrNotTerminal) {
		return -1, nil
	}
	return i, err
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
