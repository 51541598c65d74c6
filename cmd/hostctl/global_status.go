package main

import (
	"context"
	"errors"

	"github.com/adrg/xdg"
	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/ui"
)

func newGlobalStatusCmd(a *app) *cobra.Command {
	var prune bool
	cmd := &cobra.Command{
		Use:   "global-status",
		Short: "Show the machines of all your projects",
		Long: `Shows every machine that exists, in all projects, as it is now. Projects whose
directory is gone are named on standard error; --prune forgets them: hostctl
image prune can then remove the images under their disks.`,
		Example: `  hostctl global-status
  hostctl global-status -o json`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runGlobalStatus(cmd.Context(), prune)
		},
	}
	cmd.Flags().BoolVar(&prune, "prune", false, "forget projects whose directory is gone, and which images their disks need")
	return cmd
}

// globalStatus is a machine with the project it belongs to.
type globalStatus struct {
	machineStatus
	// Hides the embedded one: whether a project's file still has the machine
	// is not known without reading the file, and the variables it needs.
	Declared  *bool  `json:"declared,omitempty"`
	Directory string `json:"directory"`
}

func (a *app) runGlobalStatus(ctx context.Context, prune bool) error {
	index := project.NewIndex(xdg.StateHome)
	entries, err := index.List()
	if err != nil {
		return err
	}
	all := []globalStatus{}
	var errs []error
	for _, e := range entries {
		if e.Stale != "" {
			if !prune {
				a.ui().Warn("project %s: %s (if it was moved, run hostctl up in its new place; if it is gone for good, hostctl global-status --prune forgets it, and the images under its disks can be pruned)", at(e), e.Stale)
			}
			continue
		}
		statuses, err := a.projectStatus(ctx, e.Dir)
		errs = append(errs, err)
		for _, s := range statuses {
			all = append(all, globalStatus{machineStatus: s, Directory: e.Dir})
		}
	}
	if prune {
		pruned, err := index.Prune()
		errs = append(errs, err)
		for _, e := range pruned {
			a.ui().Notice("forgot project %s: %s; the images under its disks can be pruned now", at(e), e.Stale)
		}
	}
	if a.json() {
		return errors.Join(append(errs, a.ui().JSON(all))...)
	}
	rows := make([][]string, len(all))
	for i, s := range all {
		docker := s.DockerHost
		if docker == "" {
			docker = "-"
		}
		rows[i] = []string{s.Name, s.Provider, string(s.State), docker, s.Directory}
	}
	errs = append(errs, a.ui().Table([]ui.Column{
		{Name: "NAME"}, {Name: "PROVIDER"}, {Name: "STATE", Tone: stateTone}, {Name: "DOCKER"}, {Name: "DIRECTORY"},
	}, rows))
	return errors.Join(errs...)
}

// at names the project of an entry; a damaged one does not say where it was.
func at(e project.Entry) string {
	if e.Dir == "" {
		return e.ID
	}
	return e.ID + " in " + e.Dir
}

func (a *app) projectStatus(ctx context.Context, dir string) ([]machineStatus, error) {
	p, err := project.Open(dir, a.dirs())
	if err != nil {
		return nil, err
	}
	state, err := p.Load()
	if err != nil {
		return nil, err
	}
	var machines []lifecycle.Machine
	for _, name := range created(state) {
		machines = append(machines, lifecycle.Machine{Name: name})
	}
	return a.statuses(ctx, p, "global-status", machines)
}
