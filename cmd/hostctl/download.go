package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/transfer"
)

func newDownloadCmd(a *app) *cobra.Command {
	var o transferOptions
	cmd := &cobra.Command{
		Use:   "download [machine]:path... [destination]",
		Short: "Copy files and directories out of a machine",
		Long: `Copies files and whole directories of a running machine to this computer, as cp -r
does: into the destination (without one, the working directory) if that is a
directory, and otherwise to that very name. "path/." is what is in a directory.
Permissions, times of modification and links are kept. Nothing is written
outside the destination, whatever the guest says.`,
		Example: `  hostctl download core-01:/home/core/site ./site
  hostctl download :build.log              # from the only machine's home directory
  hostctl download core-01:out/. core-01:report.html results/
  hostctl download --sudo :/var/log/syslog .`,
		Args:              takes(1, manyWords),
		ValidArgsFunction: a.completeDownload,
		SuggestFor:        []string{"fetch", "pull"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runDownload(cmd.Context(), args, o)
		},
	}
	o.flags(cmd)
	return cmd
}

func (a *app) runDownload(ctx context.Context, args []string, o transferOptions) error {
	dst := "."
	if _, _, ok := guestPath(args[len(args)-1]); !ok {
		dst, args = args[len(args)-1], args[:len(args)-1]
		if len(args) == 0 {
			return &usageError{hint.Wrap(fmt.Errorf("%q is no place in a machine", dst),
				"what is copied is MACHINE:PATH, or :PATH where there is one machine; did you mean %q?", ":"+dst)}
		}
	}
	machine := ""
	var sources []string
	for i, word := range args {
		name, path, ok := guestPath(word)
		switch {
		case !ok:
			err := fmt.Errorf("%q is no place in a machine", word)
			if i == 0 {
				return &usageError{hint.Wrap(err, "hostctl upload copies from this computer into a machine")}
			}
			return &usageError{hint.Wrap(err, "what is copied is MACHINE:PATH, or :PATH where there is one machine")}
		case i > 0 && name != machine:
			return &usageError{errors.New("files come from one machine at a time")}
		case strings.HasSuffix(word, ":") && path == ".":
			// Easily a slip, and all of it would go over what is in the destination.
			return &usageError{hint.Wrap(fmt.Errorf("%q names nothing to copy", word), "name a path, or %s. for all of the home folder", word)}
		}
		machine = name
		sources = append(sources, path)
	}
	return a.transfer(ctx, "download", machine, o, func(ctx context.Context, t *transferring) (transfer.Result, error) {
		return transfer.Download(ctx, t.client, sources, dst, t.options)
	})
}

func (a *app) completeDownload(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.completeGuestPath(cmd, prefix)
}
