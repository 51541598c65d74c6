package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/sync/exports"
)

// exportsCommand is the name of the command that tells the NFS server of this
// computer. Other commands run it by sudo; a rule of sudo's names it.
const exportsCommand = "exports"

func newExportsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    exportsCommand,
		Short:  "As root, have this computer's NFS server export what standard input says",
		Hidden: true,
		Args:   takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !exports.IsRoot() {
				return errors.New("only root can do that, and hostctl up asks for it")
			}
			return exports.Serve(cmd.Context(), exportServer(), exports.Caller(a.getenv), a.streams.in, a.streams.out)
		},
	}
}

func exportServer() exports.Server { return exports.Server{System: runtime.GOOS} }

// yield leaves the terminal to sudo, where there is one.
func (a *app) yield(_ context.Context, why string, sudo func() error) error {
	if a.json() {
		return fmt.Errorf("%w: with -o json nobody is asked", exports.ErrNotAllowed)
	}
	err := a.ui().Yield(why, sudo)
	if errors.Is(err, ui.ErrNotTerminal) {
		return fmt.Errorf("%w: %w", exports.ErrNotAllowed, err)
	}
	return err
}

// systemExports has the NFS server of this computer export folders of p.
type systemExports struct {
	client  *exports.Client
	project *project.Project
	notice  func(format string, args ...any)
}

var _ lifecycle.SystemExports = (*systemExports)(nil)

func (s *systemExports) Path(folder string) (string, error) { return s.client.Resolve(folder) }

func (s *systemExports) Running(ctx context.Context) error {
	if _, err := s.client.Program(); err != nil {
		return err
	}
	return s.client.Running(ctx)
}

func (s *systemExports) Ensure(ctx context.Context, folders []lifecycle.SystemExport) error {
	id := s.project.ID()
	if id == "" {
		return nil // it has never been anything
	}
	r, err := s.request(id, folders)
	if err != nil {
		return err
	}
	found, err := s.client.Ensure(ctx, r)
	if err != nil || !found.Wanted {
		for _, m := range found.Mistakes {
			s.notice("%v", m)
		}
	}
	return err
}

// request merges folders that are the same by different names. Who may write to one
// by one name may write to it.
func (s *systemExports) request(id string, folders []lifecycle.SystemExport) (exports.Request, error) {
	type access struct {
		path   string
		client netip.Prefix
	}
	readOnly := map[access]bool{}
	for _, f := range folders {
		path, err := s.client.Resolve(f.Folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return exports.Request{}, err
		}
		for _, c := range f.Clients {
			at := access{path, c}
			before, known := readOnly[at]
			readOnly[at] = f.ReadOnly && (before || !known)
		}
	}
	r := exports.Request{Project: id}
	for at, ro := range readOnly {
		i := slices.IndexFunc(r.Exports, func(e exports.Export) bool { return e.Path == at.path && e.ReadOnly == ro })
		if i < 0 {
			i = len(r.Exports)
			r.Exports = append(r.Exports, exports.Export{Path: at.path, ReadOnly: ro})
		}
		r.Exports[i].Clients = append(r.Exports[i].Clients, at.client)
	}
	return r, nil
}
