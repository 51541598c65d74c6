package main

import (
	"cmp"
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/ui"
)

func newPlanCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "plan [machine...]",
		Short: "Show what hostctl up would do, and do nothing",
		Long: `Compares the machine file with the machines that exist and shows what hostctl up
would do with the named ones, or all: create, start, update in place, restart,
or replace, which destroys a machine and makes it anew. Changes nothing.
Says also what up would refuse, such as a share whose folder is missing: exit
code 2. With -o json, an array of objects.`,
		Example: `  hostctl plan
  hostctl plan core-01
  hostctl plan -o json | jq -r '.[] | select(.action == "replace") | .name'`,
		ValidArgsFunction: a.completeMachines,
		SuggestFor:        []string{"diff", "preview", "dry-run"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runPlan(cmd.Context(), args)
		},
	}
}

func (a *app) runPlan(ctx context.Context, names []string) error {
	p, config, machines, err := a.selected(names)
	if err != nil {
		return err
	}
	e := a.engine(p, "plan")
	if e.Libvirt, err = a.libvirtFor(p, config); err != nil {
		return err
	}
	plans, err := e.Plan(ctx, machines, config.Machines)
	if err != nil {
		return err
	}
	if err := a.showPlan(plans); err != nil {
		return err
	}
	return problems(plans)
}

// problems returns what up would refuse.
func problems(plans []lifecycle.MachinePlan) error {
	var errs []error
	for _, p := range plans {
		for _, problem := range p.Problems {
			errs = append(errs, problem.Err)
		}
	}
	return errors.Join(errs...)
}

func (a *app) showPlan(plans []lifecycle.MachinePlan) error {
	if a.json() {
		return a.ui().JSON(plans)
	}
	if len(plans) == 0 {
		a.ui().Notice("%v: nothing to plan", errNoMachines)
		return nil
	}
	if err := a.ui().Table(planColumns(), planRows(plans)); err != nil {
		return err
	}
	for _, p := range plans {
		switch {
		case p.Action == lifecycle.ReplaceAction:
			a.ui().Warn("%s: to replace it is to lose all data on its disk", p.Name)
		case !p.Declared:
			a.ui().Notice("%s is not in the machine file and is left alone: hostctl destroy %s removes it", p.Name, p.Name)
		}
	}
	if disturbing(plans) {
		a.ui().Notice("hostctl up asks before it restarts or replaces a machine; hostctl up --yes does not")
	}
	return nil
}

func disturbing(plans []lifecycle.MachinePlan) bool {
	for _, p := range plans {
		if p.Action == lifecycle.RestartAction || p.Action == lifecycle.ReplaceAction {
			return true
		}
	}
	return false
}

func planColumns() []ui.Column {
	return []ui.Column{
		{Name: "MACHINE"},
		{Name: "ACTION", Tone: actionTone},
		{Name: "CHANGE"},
		{Name: "FROM"},
		{Name: "TO"},
	}
}

func actionTone(action string) ui.Tone {
	switch lifecycle.Action(action) {
	case lifecycle.CreateAction, lifecycle.StartAction, lifecycle.UpdateAction:
		return ui.Good
	case lifecycle.RestartAction:
		return ui.Caution
	case lifecycle.ReplaceAction:
		return ui.Bad
	}
	return ui.Faint
}

// planRows has a row for each change, each with the machine's name and what
// that change takes, so that lines can be searched and counted.
func planRows(plans []lifecycle.MachinePlan) [][]string {
	var rows [][]string
	for _, p := range plans {
		if len(p.Changes) == 0 {
			what := "up to date"
			switch {
			case !p.Declared:
				what = "not in the machine file"
			case p.Action == lifecycle.StartAction:
				what = "-"
			}
			rows = append(rows, []string{p.Name, string(p.Action), what, "-", "-"})
		}
		for _, c := range p.Changes {
			rows = append(rows, []string{p.Name, string(c.Takes), c.Field, cmp.Or(c.From, "-"), cmp.Or(c.To, "-")})
		}
	}
	return rows
}
