package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
)

func newConfigCmd(a *app) *cobra.Command {
	var (
		format  string
		secrets bool
	)
	cmd := &cobra.Command{
		Use:   "config [machine]",
		Short: "Print the Ignition or Butane config that a machine boots with",
		Long: `Prints the generated first-boot configuration of a machine. The keys in it are
placeholders, so that the output can be shown around; --secrets prints the real
ones of a machine that was made.`,
		Example: `  hostctl config
  hostctl config core-01 --format butane`,
		Args:              takes(0, 1),
		ValidArgsFunction: a.completeMachine,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runConfig(cmd.Context(), args, format, secrets)
		},
	}
	cmd.Flags().StringVar(&format, "format", "ignition", "`FORMAT` to print: ignition or butane")
	cmd.Flags().BoolVar(&secrets, "secrets", false, "print the real keys")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"ignition", "butane"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// The keys of a config that is only looked at.
var placeholders = struct{ authorized, private, public string }{
	authorized: "ssh-ed25519 PROJECT-KEY hostctl",
	private:    "-----BEGIN OPENSSH PRIVATE KEY-----\nHOST-KEY\n-----END OPENSSH PRIVATE KEY-----\n",
	public:     "ssh-ed25519 HOST-KEY",
}

func (a *app) runConfig(ctx context.Context, names []string, format string, secrets bool) error {
	if format != "ignition" && format != "butane" {
		return &usageError{fmt.Errorf("unknown config format %q: ignition or butane", format)}
	}
	p, _, machines, err := a.selected(names)
	if err != nil {
		return err
	}
	if len(machines) != 1 {
		var known []string
		for _, m := range machines {
			known = append(known, m.Name)
		}
		return notOne(known)
	}
	m := machines[0]
	guest, err := a.images().Guest(ctx, lifecycle.RefOf(m.Image))
	if err != nil {
		return err
	}
	in, err := a.engine(p, "config").Config(ctx, m, guest)
	if err != nil {
		return err
	}
	in.AuthorizedKeys = []string{placeholders.authorized}
	in.HostKey = cloudconfig.HostKey{Private: placeholders.private, Public: placeholders.public}
	if secrets {
		keys, err := p.Keys()
		if errors.Is(err, project.ErrNoState) {
			return notCreated(m.Name)
		}
		if err != nil {
			return err
		}
		hostKey, err := p.HostKey(m.Name)
		if err != nil {
			return hint.Wrap(err, "hostctl up %s", m.Name)
		}
		in.AuthorizedKeys = []string{keys.Public}
		in.HostKey = cloudconfig.HostKey{Private: hostKey.Private, Public: hostKey.Public}
	}
	out, err := cloudconfig.Render(in)
	if err != nil {
		return err
	}
	text := out.Ignition
	if format == "butane" {
		text = out.Butane
	}
	_, err = fmt.Fprintf(a.streams.out, "%s\n", bytes.TrimSpace(text))
	return err
}
