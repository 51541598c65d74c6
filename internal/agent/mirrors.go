package agent

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/sync/mirror"
)

// mirroring keeps the copies in a machine's guest like the folders of this host.
type mirroring struct {
	of     []project.ShareSpec
	copies []*copying // of the same shares
	stop   func()
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
	if w.mirroring == nil && len(shares) > 0 {
		m := &mirroring{of: shares}
		for _, s := range shares {
			m.copies = append(m.copies, &copying{share: s, log: w.log.With("share", s.Name), now: make(chan func(*mirror.Result, error))})
		}
		m.stop = background(ctx, func(ctx context.Context) {
			for ctx.Err() == nil {
				w.mirrorOnce(ctx, m.copies)
				pause(ctx, attemptInterval)
			}
		})
		w.mirroring = m
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.copies = nil
	if w.mirroring != nil {
		w.copies = w.mirroring.copies
	}
}

// mirrorOnce mirrors all shares over one connection, for as long as it stands;
// where they are many, over as many as it takes.
func (w *worker) mirrorOnce(ctx context.Context, copies []*copying) {
	target, err := w.login()
	if err != nil {
		w.log.Info("cannot mirror shares", "error", err)
		return
	}
	first, err := sshclient.Connect(ctx, target)
	if err != nil {
		return // it boots, or goes down: the agent looks itself
	}
	client := sshclient.NewSessions(first)
	defer func() { _ = client.Close() }() // the guest may be gone
	var all sync.WaitGroup
	for _, c := range copies {
		all.Go(func() {
			c.set(func() { c.connected = true })
			defer c.set(func() { c.connected = false })
			for ctx.Err() == nil {
				gone := make(chan struct{})
				c.set(func() { c.gone, c.watched = gone, nil })
				config := MirrorConfig(w.agent.cfg.Project, w.name, c.share)
				config.Progress = c.progress
				err := mirror.Watch(ctx, client, config, mirror.Watching{
					Began: c.began, Done: c.done, Now: c.now, Notice: c.notice,
				})
				close(gone)
				c.set(func() { c.gone, c.runs = nil, false })
				if ctx.Err() != nil {
					return
				}
				if errors.Is(err, sshclient.ErrLost) {
					// It may be one session that was lost: the others have to
					// end for this one to get another connection.
					_ = client.Close()
					return
				}
				c.keep("cannot watch the folder", err)
				pause(ctx, attemptInterval)
			}
		})
	}
	all.Wait()
}

// copying is how a guest's copy is kept, for status.
type copying struct {
	share project.ShareSpec
	log   *slog.Logger
	now   chan func(*mirror.Result, error) // see mirror.Watching

	mu        sync.Mutex
	connected bool
	gone      chan struct{}   // closed when nobody takes from now any more; nil: nobody does
	runs      bool            // a run is under way
	far       mirror.Progress // of it
	last      time.Time       // when one ended well
	watched   error           // why the folder is not watched as it should be
	err       error           // why both sides are not alike
}

func (c *copying) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func (c *copying) began() { c.set(func() { c.runs, c.far = true, mirror.Progress{} }) }

func (c *copying) progress(p mirror.Progress) { c.set(func() { c.far = p }) }

func (c *copying) done(r *mirror.Result, err error) {
	if errors.Is(err, mirror.ErrBusy) {
		c.set(func() { c.runs = false })
		return // another process does the same
	}
	c.keep("not all is mirrored", err)
	if r != nil && len(r.Changes) > 0 {
		c.log.Info("mirrored", "changes", len(r.Changes), "files", r.Files, "bytes", r.Bytes)
	}
	c.set(func() {
		c.runs = false
		if err == nil {
			c.last = time.Now()
		}
	})
}

// keep notes why both sides are not alike, and logs it when it is news: it is
// tried for as long as it lasts.
func (c *copying) keep(text string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && (c.err == nil || c.err.Error() != err.Error()) {
		c.log.Warn(text, "error", err)
	}
	c.err = err
}

func (c *copying) notice(err error) {
	if err != nil {
		c.log.Warn("the folder is not watched as it should be", "error", err)
	}
	c.set(func() { c.watched = err })
}

func (c *copying) status() Mirror {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := Mirror{Name: c.share.Name, Host: c.share.Host, State: MirrorWatching, Last: c.last.Truncate(time.Second)}
	switch {
	case !c.connected:
		m.State = MirrorConnecting
	case c.runs:
		m.State, m.Files, m.Total = MirrorCopying, c.far.Files, c.far.TotalFiles
	case c.watched != nil:
		m.State = MirrorScanning
	}
	if c.watched != nil {
		m.Notice = c.watched.Error()
	}
	if c.err != nil {
		m.Error = c.err.Error()
	}
	return m
}

// mirrorNow has everything compared, over the connection that stands. Whoever
// asks may end; the run goes on.
func (a *agent) mirrorNow(ctx context.Context, machine, share string) (*mirror.Result, error) {
	a.mu.Lock()
	w := a.workers[machine]
	a.mu.Unlock()
	if w == nil {
		return nil, ErrNotMirrored
	}
	w.mu.Lock()
	at := slices.IndexFunc(w.copies, func(c *copying) bool { return c.share.Name == share })
	var c *copying
	if at >= 0 {
		c = w.copies[at]
	}
	w.mu.Unlock()
	if c == nil {
		return nil, ErrNotMirrored
	}
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	if gone == nil {
		return nil, ErrNotMirrored
	}
	type outcome struct {
		result *mirror.Result
		err    error
	}
	done := make(chan outcome, 1)
	select {
	case c.now <- func(r *mirror.Result, err error) { done <- outcome{r, err} }:
	case <-gone:
		return nil, ErrNotMirrored
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case o := <-done:
		if errors.Is(o.err, sshclient.ErrLost) {
			return nil, ErrNotMirrored
		}
		return o.result, o.err
	case <-gone:
		return nil, ErrNotMirrored
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
