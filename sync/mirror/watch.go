package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/sync/watch"
)

// Watching is how a share is kept mirrored.
type Watching struct {
	// Began is told of each run, and Done what became of it; nil: nobody is.
	// One that another process is in the way of is [ErrBusy].
	Began func()
	Done  func(*Result, error)
	// Now has everything compared at once, and tells whoever asked what that
	// came to; nil: nobody asks. While the guest is away nobody is told.
	Now <-chan func(*Result, error)
	// Notice is told what keeps the folder from being watched, and nil when
	// nothing does any more.
	Notice func(error)
	// Interval is how often everything is compared where changes in the guest
	// come back: nobody tells of those. 0: 5 s.
	Interval time.Duration
}

const (
	defaultInterval = 5 * time.Second
	// busyInterval is how soon a share is tried again that another process
	// mirrors.
	busyInterval = 500 * time.Millisecond
)

// Watch mirrors the share, and then what changes, until ctx ends, which is no
// error, or the connection does. What goes wrong with a run is for Done to
// know; the next ones try again.
func Watch(ctx context.Context, conn Conn, cfg Config, o Watching) error {
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g := &guest{conn: conn, root: cfg.Guest, skip: NewMatcher(cfg.Ignore)}
	defer g.connect(ctx)()

	w := &watching{o: o, dirty: make(chan []string), ready: make(chan struct{})}
	watcher := watch.New(cfg.Host, watch.Options{Ignore: g.skip, Ready: func() { close(w.ready) }, Notice: o.Notice})
	ended := make(chan error, 1)
	go func() {
		ended <- watcher.Run(ctx, func(changes []watch.Change) error {
			paths := make([]string, len(changes))
			for i, c := range changes {
				paths[i] = c.Path
			}
			select {
			case w.dirty <- paths:
			case <-ctx.Done():
			}
			return nil
		})
		cancel(nil)
	}()
	err := w.follow(ctx, g, cfg)
	cancel(nil)
	return errors.Join(err, <-ended)
}

type watching struct {
	o     Watching
	dirty chan []string // paths of the host that changed
	ready chan struct{} // closed when changes from then on are told
}

// follow runs once for everything that was there, and then for what changes.
func (w *watching) follow(ctx context.Context, g *guest, cfg Config) error {
	select {
	case <-w.ready: // before: a change during the first run is told
	case <-ctx.Done():
		return nil
	}
	var only []string // what changed since the last run; nil: everything is compared
	full := time.Now()
	var asked func(*Result, error) // who waits for the run
	for {
		if w.o.Began != nil {
			w.o.Began()
		}
		result, err := once(ctx, g, cfg, only)
		pause := time.Duration(0) // until everything is compared again; 0: for ever
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errOther):
			only = nil
			continue
		case errors.Is(err, ErrBusy):
			pause = busyInterval
		case sshclient.Lost(err):
			if asked != nil {
				asked(result, err)
			}
			return err
		default:
			if only == nil {
				full = time.Now()
			}
			if cfg.Both {
				pause = max(time.Until(full.Add(w.o.Interval)), time.Millisecond)
			}
			if err != nil {
				pause = w.o.Interval
			}
		}
		if w.o.Done != nil {
			w.o.Done(result, err)
		}
		if asked != nil {
			asked(result, err)
			asked = nil
		}
		var again <-chan time.Time
		if pause != 0 {
			again = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case only = <-w.dirty:
			if err != nil || len(only) > maxOnly {
				only = nil
			}
		case asked = <-w.o.Now:
			only = nil
		case <-again:
			only = nil
		}
	}
}

// maxOnly is how many paths are looked at by themselves: more than those are
// not worth less than everything.
const maxOnly = 2000
