package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/dockerhost"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
)

func newEnvCmd(a *app) *cobra.Command {
	var (
		shell string
		unset bool
	)
	cmd := &cobra.Command{
		Use:   "env [machine]",
		Short: "Print what points the Docker client of this shell at a machine",
		Long: `Prints the commands that make the shell's Docker client use a machine: it sets
DOCKER_HOST and unsets what would mislead the client. When Docker in the machine
does not answer within two seconds it fails, with nothing on standard output.`,
		Example: `  eval "$(hostctl env)"                              # bash, zsh
  hostctl env core-02 | source                       # fish
  & hostctl env | Invoke-Expression                  # PowerShell
  eval "$(hostctl env --unset)"`,
		Args:              takes(0, 1),
		ValidArgsFunction: a.completeMachine,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runEnv(cmd.Context(), args, shell, unset)
		},
	}
	cmd.Flags().StringVar(&shell, "shell", "", "write for this `SHELL` instead of the one hostctl runs in")
	cmd.Flags().BoolVarP(&unset, "unset", "u", false, "print what undoes it")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("shell", cobra.FixedCompletions(dockerhost.Shells(), cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// pingTimeout keeps a dead machine from hanging somebody's shell start-up.
const pingTimeout = 2 * time.Second

// lookTimeout is for a provider that hangs, which would take a minute and more
// to be given up, and for the start of an agent that has died.
const lookTimeout = 10 * time.Second

func (a *app) runEnv(ctx context.Context, args []string, name string, unset bool) error {
	var shell dockerhost.Shell
	// JSON is for no shell in particular, and may be asked for where none is.
	if !a.json() || unset || name != "" {
		var err error
		if shell, err = a.shell(name); err != nil {
			return &usageError{err}
		}
	}
	// A shell that evaluates this starts the very same command.
	e := dockerhost.Env{Command: a.argv}
	if unset {
		return e.WriteUnset(a.streams.out, shell)
	}
	m, err := a.oneMachine(args)
	if err != nil {
		return notUp(err)
	}
	if e.Host = m.state.DockerHost(); e.Host == "" {
		return fmt.Errorf("machine %q has its Docker switched off", m.name)
	}
	looking, enough := context.WithTimeoutCause(ctx, lookTimeout,
		fmt.Errorf("machine %q: no answer within %s about whether it runs", m.name, lookTimeout))
	defer enough()
	if err := m.running(looking); err != nil {
		return notUp(err)
	}
	a.withAgent(looking, m)
	ping, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := dockerhost.Ping(ping, e.Host); err != nil {
		return hint.Wrap(fmt.Errorf("machine %q: Docker does not answer on %s: %w", m.name, e.Host, err),
			"hostctl up %s waits until it does", m.name)
	}
	if a.json() {
		return a.ui().JSON(map[string]string{"DOCKER_HOST": e.Host})
	}
	return e.Write(a.streams.out, shell)
}

func (a *app) shell(name string) (dockerhost.Shell, error) {
	if name != "" {
		return dockerhost.ParseShell(name)
	}
	return dockerhost.Detect(dockerhost.Ancestors(), a.getenv("SHELL"))
}

// notUp keeps what a StateError says but not its exit code: whoever evaluates
// env expects a plain failure.
func notUp(err error) error {
	if state, ok := errors.AsType[*lifecycle.StateError](err); ok {
		return hint.Wrap(errors.New(state.Error()), "%s", state.Advice)
	}
	return err
}
