package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"

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
	// It is there all day. Its buffers are used again, so that to collect garbage twice as
	// often takes hardly any time, and a quarter of the memory less.
	debug.SetGCPercent(50)
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
	c := &agent.Client{Project: p, Provider: providers.get, Version: version, Notice: a.ui().Notice}
	if self, err := os.Executable(); err == nil {
		c.Command = []string{self, agentCommand, p.Dir()}
	}
	return c
}

const (
	// agentTimeout bounds asking the agent what it does: looking takes no time.
	agentTimeout = 200 * time.Millisecond
	// agentPatience is how long an agent may take before it is said that it
	// does not answer: a busy one is not to be called dead.
	agentPatience = 2 * time.Second
)

// carried is what p's agent does, by machine; nothing without an agent.
func (a *app) carried(ctx context.Context, p *project.Project) map[string]agent.MachineStatus {
	s, err := a.agentStatus(ctx, p, agentTimeout)
	if err != nil {
		a.logger().Debug("the agent does not say what it does", "error", err)
	}
	return s.Machines
}

// agentStatus is what p's agent does.
func (a *app) agentStatus(ctx context.Context, p *project.Project, patience time.Duration) (agent.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return a.agent(p, a.providers(p)).Status(ctx)
}

// agentAnswers reports whether p's agent can be asked for what takes as long as
// it takes: one that hangs would be waited for without an end.
func (a *app) agentAnswers(ctx context.Context, p *project.Project) bool {
	_, err := a.agentStatus(ctx, p, agentPatience)
	return err == nil
}

// withAgent starts m's agent anew if it has died. What the agent does may not
// be what the user is after, so that a failure is only told.
func (a *app) withAgent(ctx context.Context, m *one) {
	if err := a.agent(m.project, a.providers(m.project)).Ensure(ctx, m.name); err != nil && ctx.Err() == nil {
		a.ui().Warn("the project's agent: %v", err)
	}
}
