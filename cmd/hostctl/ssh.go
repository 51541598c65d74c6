package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/sshclient"
)

type sshOptions struct {
	command  string
	terminal bool
	agent    bool
}

func newSSHCmd(a *app) *cobra.Command {
	var o sshOptions
	cmd := &cobra.Command{
		Use:   "ssh [machine] [-c command | -- command [argument...]]",
		Short: "Log in to a machine, or run a command in it",
		Long: `Opens a shell in a machine, or runs a command there and exits with its status.
What follows -c is read by the guest's shell; the words after -- reach the
command as they are. "~." after Enter ends a connection that hangs.`,
		Example: `  hostctl ssh
  hostctl ssh core-02 -c 'docker ps | wc -l'
  hostctl ssh core-01 -- ls -l '/home/core/my files'
  hostctl ssh -t -- sudo less /var/log/audit`,
		ValidArgsFunction: a.completeMachine,
		SuggestFor:        []string{"shell", "exec", "login"},
		Args: func(cmd *cobra.Command, args []string) error {
			words := args
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				words = args[:n]
				if len(args) > n && o.command != "" {
					return errors.New("a command is given by -c or after --, not by both")
				}
			}
			if len(words) > 1 {
				return errors.New("only one machine can be named; " + commandGoesAfter)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				if len(args) > n {
					o.command = sshclient.Quote(args[n:]...)
				}
				args = args[:n]
			}
			return a.runSSH(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.command, "command", "c", "", "run this `COMMAND` line in the guest's shell")
	f.BoolVarP(&o.terminal, "tty", "t", false, "connect a terminal even though a command is given")
	f.BoolVarP(&o.agent, "forward-agent", "A", false, "let the guest use this host's SSH agent")
	return cmd
}

// commandGoesAfter is for words that were meant to run in the guest.
const commandGoesAfter = "a command goes after -- or -c"

func (a *app) runSSH(ctx context.Context, args []string, o sshOptions) error {
	m, err := a.oneMachine(args)
	unknown, ok := errors.AsType[*lifecycle.StateError](err)
	if ok && unknown.State == notInProject && o.command == "" && !strings.HasSuffix(unknown.Advice, "?") { // nor a slip
		return hint.Wrap(err, "%s; %s", unknown.Advice, commandGoesAfter)
	}
	if err != nil {
		return err
	}
	return a.login(ctx, m, o)
}

// login runs a command in the machine, or a shell when there is none, and
// returns its exit status as an *exitError.
func (a *app) login(ctx context.Context, m *one, o sshOptions) error {
	client, err := a.dial(ctx, m)
	if err != nil {
		return err
	}
	// What the command came to is known by then.
	defer func() { _ = client.Close() }()
	if o.agent {
		if err := client.ForwardAgent(ctx, a.getenv("SSH_AUTH_SOCK")); err != nil {
			return err
		}
	}
	exit, err := a.session(ctx, client, o)
	if err != nil {
		return err
	}
	if exit != 0 {
		return &exitError{exit}
	}
	return nil
}

// dial logs in to the machine.
func (a *app) dial(ctx context.Context, m *one) (*sshclient.Client, error) {
	if err := m.running(ctx); err != nil {
		return nil, err
	}
	a.withAgent(ctx, m)
	target, err := lifecycle.Target(m.project, m.name, m.state)
	if err != nil {
		return nil, err
	}
	client, err := sshclient.Dial(ctx, target)
	if err != nil {
		return nil, notLoggedIn(ctx, m.name, err)
	}
	return client, nil
}

// notLoggedIn tells a guest that may yet answer from one that refuses the key,
// and from a server that is not the guest: no waiting mends those.
func notLoggedIn(ctx context.Context, name string, err error) error {
	_, stranger := errors.AsType[*sshclient.HostKeyError](err)
	if stranger || errors.Is(err, sshclient.ErrAuth) || ctx.Err() != nil {
		return err
	}
	return &lifecycle.NotReadyError{Waited: "machine " + name, Err: err, Advice: "hostctl up " + name + " waits until it answers"}
}

// session connects a terminal where there is one to connect: for a shell that
// a person uses, and when asked to.
func (a *app) session(ctx context.Context, client *sshclient.Client, o sshOptions) (int, error) {
	in, inIsFile := a.streams.in.(*os.File)
	out, outIsFile := a.streams.out.(*os.File)
	interactive := o.command == "" && a.ui().IsTerminal(a.streams.in)
	if (interactive || o.terminal) && inIsFile && outIsFile {
		return client.Shell(ctx, o.command, sshclient.Terminal{In: in, Out: out, Type: a.getenv("TERM")})
	}
	return client.Exec(ctx, o.command, sshclient.Streams{In: a.streams.in, Out: a.streams.out, Err: a.streams.err})
}
