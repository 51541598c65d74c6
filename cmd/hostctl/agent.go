package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
)

// agentCommand is the name of the command that is the project's agent. It is
// started by other commands only.
const agentCommand = "agent"

func newAgentCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    agentCommand + " directory",
		Short:  "Be the background process of the project in a directory",
		Hidden: true,
		Args:   takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runAgent(cmd.Context(), args[0])
		},
	}
}

func (a *app) runAgent(ctx context.Context, dir string) error {
	p, err := project.Open(dir, a.dirs())
	if err != nil {
		return err
	}
	return agent.Run(ctx, agent.Config{
		Project:  p,
		Provider: a.providers(p).get,
		Target: func(name string, ms project.MachineState) (sshclient.Target, error) {
			return lifecycle.Target(p, name, ms)
		},
		Version: version,
		Log:     os.Stderr, // whoever started it has made that the log
	})
}

// agent is how commands use p's agent.
func (a *app) agent(p *project.Project, providers providers) *agent.Client {
	c := &agent.Client{Project: p, Provider: providers.get, Version: version}
	if self, err := os.Executable(); err == nil {
		c.Command = []string{self, agentCommand, p.Dir()}
	}
	return c
}
