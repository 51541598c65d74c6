package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/sync/mirror"
)

// mirrors mirrors shares for up.
type mirrors struct {
	project *project.Project
	warn    func(format string, args ...any)
}

// turnInterval is how soon a share is tried again that the agent is at.
const turnInterval = 200 * time.Millisecond

// Mirror mirrors each of the shares once. A path that cannot be mirrored is
// only told: the machine is of use without it.
func (m mirrors) Mirror(ctx context.Context, machine string, t sshclient.Target, shares []project.ShareSpec, progress func(string)) error {
	client, err := sshclient.Dial(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // what was done is known by then
	for _, s := range shares {
		config := agent.MirrorConfig(m.project, machine, s)
		progress(fmt.Sprintf("share %s: comparing", s.Name))
		var last time.Time
		config.Progress = func(p mirror.Progress) {
			if now := time.Now(); now.Sub(last) > progressInterval {
				last = now
				progress(fmt.Sprintf("share %s: %d of %s", s.Name, p.Files, count(p.TotalFiles, "file")))
			}
		}
		err := wait.Until(ctx, turnInterval, func(ctx context.Context) error {
			_, err := mirror.Sync(ctx, client, config)
			if err != nil && !errors.Is(err, mirror.ErrBusy) {
				err = wait.Permanent(err)
			}
			return err
		})
		if partial, ok := errors.AsType[*mirror.PartialError](err); ok {
			text := partial.Error()
			if advice := hint.Of(partial); advice != "" {
				text += "; " + advice
			}
			m.warn("%s: share %s: %s", machine, s.Name, text)
			err = nil
		}
		if err != nil {
			return fmt.Errorf("share %q: %w", s.Name, err)
		}
	}
	return nil
}
