package agent

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/sync/mirror"
)

// mirroring keeps the copies in a machine's guest like the folders of this host.
type mirroring struct {
	of   []project.ShareSpec
	stop func()
}

// mirrored are the shares of which the guest has copies.
func mirrored(ms project.MachineState) []project.ShareSpec {
	var out []project.ShareSpec
	for _, s := range ms.Mounted {
		if s.Mirrored() {
			out = append(out, s)
		}
	}
	return out
}

// MirrorConfig is how a machine's share is mirrored.
func MirrorConfig(p *project.Project, machine string, s project.ShareSpec) mirror.Config {
	return mirror.Config{
		Host: s.Host, Guest: s.Guest, Both: s.Direction == "both", Ignore: s.Ignore, Base: p.MirrorFile(machine, s.Name),
	}
}

// mirror starts or ends mirroring, by what the guest has.
func (w *worker) mirror(ctx context.Context, ms project.MachineState) {
	shares := mirrored(ms)
	if w.mirroring != nil && !reflect.DeepEqual(w.mirroring.of, shares) {
		w.mirroring.stop()
		w.mirroring = nil
	}
	if w.mirroring != nil || len(shares) == 0 {
		return
	}
	w.mirroring = &mirroring{of: shares, stop: background(ctx, func(ctx context.Context) {
		for ctx.Err() == nil {
			w.mirrorOnce(ctx, shares)
			pause(ctx, attemptInterval)
		}
	})}
}

// mirrorOnce mirrors all shares over one connection, for as long as it stands.
func (w *worker) mirrorOnce(ctx context.Context, shares []project.ShareSpec) {
	target, err := w.login()
	if err != nil {
		w.log.Info("cannot mirror shares", "error", err)
		return
	}
	client, err := sshclient.Connect(ctx, target)
	if err != nil {
		return // it boots, or goes down: the agent looks itself
	}
	defer func() { _ = client.Close() }() // the guest may be gone
	var all sync.WaitGroup
	for _, s := range shares {
		log := w.log.With("share", s.Name)
		all.Go(func() {
			for ctx.Err() == nil {
				err := mirror.Watch(ctx, client, MirrorConfig(w.agent.cfg.Project, w.name, s), mirrorLog(log))
				if ctx.Err() != nil || errors.Is(err, sshclient.ErrLost) {
					return
				}
				log.Warn("cannot watch the folder", "error", err)
				pause(ctx, attemptInterval)
			}
		})
	}
	all.Wait()
}

func mirrorLog(log *slog.Logger) mirror.Watching {
	return mirror.Watching{
		Done: func(r *mirror.Result, err error) {
			if err != nil {
				log.Warn("not all is mirrored", "error", err)
			}
			if r != nil && len(r.Changes) > 0 {
				log.Info("mirrored", "changes", len(r.Changes), "files", r.Files, "bytes", r.Bytes)
			}
		},
		Notice: func(err error) {
			if err != nil {
				log.Warn("the folder is not watched as it should be", "error", err)
			}
		},
	}
}
