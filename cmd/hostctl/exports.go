package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

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
