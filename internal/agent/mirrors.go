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

// end stops it. A folder that hangs would be waited for without an end: what is at it
// ends when it wakes, and holds the share's lock until then.
func (m *mirroring) end() {
	ended := make(chan struct{})
	go func() {
		m.stop()
		close(ended)
	}()
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
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
		Machine: machine,
	}
}

// mirror starts or ends mirroring, by what the guest has.
func (w *worker) mirror(ctx context.Context, ms project.MachineState) {
	shares := mirrored(ms)
	if w.mirroring != nil && !reflect.DeepEqual(w.mirroring.of, shares) {
		w.mirroring.end()
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
	asked     []*asker        // who waits for one
	earlier   *Earlier        // what one did last that nobody asked for; nil: nothing
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
	did := r != nil && len(r.Changes) > 0
	if did {
		c.log.Info("mirrored", "changes", len(r.Changes), "files", r.Files, "bytes", r.Bytes)
	}
	c.set(func() {
		c.runs = false
		for _, a := range c.asked {
			a.add(r)
		}
		if did && len(c.asked) == 0 {
			c.earlier = &Earlier{Changes: len(r.Changes), Files: r.Files, Bytes: r.Bytes, At: time.Now()}
		}
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

// asker is somebody who wants to know what is done while they wait: a run that
// is under way has likely taken what they ask for.
type asker struct{ done mirror.Result }

func (a *asker) add(r *mirror.Result) {
	if r == nil {
		return
	}
	a.done.Changes = append(a.done.Changes, r.Changes...)
	a.done.Skipped = r.Skipped // the last run's are all that there are
	a.done.Files += r.Files
	a.done.Bytes += r.Bytes
}

// ask has everything compared, and tells how far that is now and then.
func (c *copying) ask(ctx context.Context, progress func(mirror.Progress)) (*mirror.Result, *Earlier, error) {
	by := &asker{}
	c.mu.Lock()
	gone, earlier := c.gone, c.earlier
	c.asked = append(c.asked, by)
	c.mu.Unlock()
	defer c.set(func() { c.asked = slices.DeleteFunc(c.asked, func(a *asker) bool { return a == by }) })
	if gone == nil {
		return nil, nil, ErrNotMirrored
	}
	done := make(chan error, 1)
	now := c.now
	tick := time.NewTicker(tellInterval)
	defer tick.Stop()
	for {
		select {
		case now <- func(_ *mirror.Result, err error) { done <- err }:
			now = nil // it has begun, or is about to
		case err := <-done:
			if errors.Is(err, sshclient.ErrLost) {
				return nil, nil, ErrNotMirrored
			}
			return &by.done, earlier, err
		case <-tick.C:
			c.mu.Lock()
			runs, far := c.runs, c.far
			c.mu.Unlock()
			if runs && far.TotalFiles > 0 {
				progress(far)
			}
		case <-gone:
			return nil, nil, ErrNotMirrored
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// tellInterval is how often whoever asks is told how far a run is.
const tellInterval = 100 * time.Millisecond

// mirrorNow has everything compared, over the connection that stands. Whoever
// asks may end; the run goes on.
func (a *agent) mirrorNow(ctx context.Context, machine, share string, progress func(mirror.Progress)) (*mirror.Result, *Earlier, error) {
	a.mu.Lock()
	w := a.workers[machine]
	a.mu.Unlock()
	if w == nil {
		return nil, nil, ErrNotMirrored
	}
	w.mu.Lock()
	at := slices.IndexFunc(w.copies, func(c *copying) bool { return c.share.Name == share })
	var c *copying
	if at >= 0 {
		c = w.copies[at]
	}
	w.mu.Unlock()
	if c == nil {
		return nil, nil, ErrNotMirrored
	}
	return c.ask(ctx, progress)
}
