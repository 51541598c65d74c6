package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/transfer"
)

func newUploadCmd(a *app) *cobra.Command {
	var o transferOptions
	cmd := &cobra.Command{
		Use:   "upload source... [machine]:path",
		Short: "Copy files and directories into a machine",
		Long: `Copies files and whole directories of this computer into a running machine, as
cp -r does: into the path if that is a directory, and otherwise to that very name.
"source/." is what is in a directory. A path is relative to the home directory
there. Permissions, times of modification and links are kept.`,
		Example: `  hostctl upload ./site core-01:/home/core/site
  hostctl upload compose.yml .env :        # into the only machine's home directory
  hostctl upload ./conf/. core-02:app/conf
  hostctl upload --sudo daemon.json :/etc/docker/`,
		Args:              takes(2, manyWords),
		ValidArgsFunction: a.completeUpload,
		SuggestFor:        []string{"cp", "copy", "scp", "push"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runUpload(cmd.Context(), args, o)
		},
	}
	o.flags(cmd)
	return cmd
}

// manyWords is no limit to how many words follow a command.
const manyWords = 1 << 20

func (a *app) runUpload(ctx context.Context, args []string, o transferOptions) error {
	sources, last := args[:len(args)-1], args[len(args)-1]
	machine, dst, ok := guestPath(last)
	if !ok {
		err := fmt.Errorf("%q is no place in a machine", last)
		if _, _, ok := guestPath(args[0]); ok {
			return &usageError{hint.Wrap(err, "hostctl download copies from a machine to this computer")}
		}
		meant := ":" + last
		if a.isMachine(last) {
			meant = last + ":"
		}
		return &usageError{hint.Wrap(err, "the last word is MACHINE:PATH, or :PATH where there is one machine; did you mean %q?", meant)}
	}
	for _, s := range sources {
		// Before a machine is asked for anything.
		if _, err := os.Lstat(s); errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s does not exist", s)
			if _, _, ok := guestPath(s); ok {
				err = hint.Wrap(err, "what is uploaded is on this computer: hostctl download copies from a machine")
			}
			return err
		}
	}
	return a.transfer(ctx, "upload", machine, o, func(ctx context.Context, t *transferring) (transfer.Result, error) {
		result, err := transfer.Upload(ctx, t.client, sources, dst, t.options)
		return result, inReadOnlyShare(t.shares, err)
	})
}

func (a *app) completeUpload(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeGuestPath(cmd, prefix)
}
