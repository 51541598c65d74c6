// Package events tells programs in guests what is changed in shared folders on
// the host.
//
// A guest's kernel tells inotify what its own programs do, and nothing of what
// happens behind an NFS server. So a shell in the guest does it once more,
// through the mount: it makes, removes and touches what was made, removed and
// changed. The server knows the shell by its group and has none of that happen
// ([nfs.Replay]).
package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hostctl/hostctl/sync/nfs"
	"github.com/hostctl/hostctl/sync/watch"
)

// Guest runs commands in a guest.
type Guest interface {
	// Exec runs a command line in the shell of a user who may become root
	// without a password, and returns its exit status. It returns soon after
	// ctx has ended, whatever the guest does.
	Exec(ctx context.Context, command string, in io.Reader, out, errs io.Writer) (exit int, err error)
}

// Share is a folder of the host that guests have mounted.
type Share struct {
	Export string // its name as the server has it
	Host   string // the folder
	Guest  string // where it is mounted, absolute
	// Ignore is what guests are not told of: lines of a .gitignore. hostctl's own
	// files are never told.
	Ignore []string
}

// Equal reports whether guests are told the same of both.
func (s Share) Equal(o Share) bool { return s.watched() == o.watched() && s.Guest == o.Guest }

// watched is what shares that are watched together have in common.
type watched struct{ export, host, ignore string }

func (s Share) watched() watched {
	return watched{s.Export, s.Host, strings.Join(s.Ignore, "\n")}
}

// Hub watches folders for all guests that have them.
type Hub struct {
	replays *nfs.Replays
	log     *slog.Logger

	mu    sync.Mutex
	feeds map[watched]*feed
}

// New returns a hub for what servers with these replays export.
func New(replays *nfs.Replays, log *slog.Logger) *Hub {
	return &Hub{replays: replays, log: log, feeds: map[watched]*feed{}}
}

// How soon a guest is tried again that could not be told.
const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// wellAfter is how long it must have gone well for the next failure to be
	// the first again.
	wellAfter = time.Minute
)

// Keep tells a guest of changes in its shares until ctx ends. When the guest is
// gone, or has not mounted them yet, it connects again. connect returns the
// guest, and what ends the connection.
//
// What happens while the guest is away is not told later: what it has mounted
// then is as it is.
//
// notice, which may be nil, hears why a guest that is there cannot be told, and
// nil when it is.
func (h *Hub) Keep(ctx context.Context, shares []Share, connect func(context.Context) (Guest, func(), error), notice func(error)) {
	if notice == nil {
		notice = func(error) {}
	}
	pause := firstRetry
	said := "" // each reason once: a guest without sudo fails for ever
	for ctx.Err() == nil {
		start := time.Now()
		err := h.once(ctx, shares, connect, notice)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) > wellAfter {
			pause = firstRetry
		}
		if why := fmt.Sprint(err); why != said {
			said = why
			h.log.Info("a guest is not told of file changes", "folder", shares[0].Host, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastRetry)
	}
}

func (h *Hub) once(ctx context.Context, shares []Share, connect func(context.Context) (Guest, func(), error), notice func(error)) error {
	guest, end, err := connect(ctx)
	if err != nil {
		return err // it boots, or goes down
	}
	defer end()
	began := false
	err = h.follow(ctx, guest, shares, func() {
		began = true
		notice(nil)
	})
	if !began && ctx.Err() == nil {
		notice(err)
	}
	return err
}

// follow tells a guest of changes in its shares, and calls began when it will be
// told of whatever changes from now on. It returns why it cannot go on, be it
// that ctx has ended.
func (h *Hub) follow(ctx context.Context, guest Guest, shares []Share, began func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	replay := h.replays.Begin()
	defer replay.Close()
	q := newQueue()
	s := &session{shares: shares, replay: replay, queue: q, cancel: cancel}
	if err := s.start(ctx, guest); err != nil {
		return err
	}
	defer s.wait()
	defer cancel(nil)
	for i, share := range shares {
		leave, err := h.join(ctx, share, member{
			each: func(changes []watch.Change) { s.push(ctx, i, changes) },
			end:  func(err error) { cancel(fmt.Errorf("watch %s: %w", share.Host, err)) },
		})
		if err != nil {
			return fmt.Errorf("watch %s: %w", share.Host, err)
		}
		defer leave()
	}
	began()
	return s.run(ctx)
}

// Trouble says why changes in an export are told late, or not at all; nil when
// all is well, or nobody is told.
func (h *Hub) Trouble(export string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for of, f := range h.feeds {
		if of.export == export && f.trouble != nil {
			return f.trouble
		}
	}
	return nil
}

// feed watches a folder while somebody wants to know.
type feed struct {
	share   Share
	trouble error
	ready   chan struct{} // closed when it watches, or cannot
	failed  error         // why it cannot
	cancel  context.CancelFunc
	members map[int]member
	next    int
}

// member is a guest that is told. Neither function may wait for the guest.
type member struct {
	each func([]watch.Change)
	end  func(error) // the feed has ended
}

// join tells m of the changes of a share until leave is called.
func (h *Hub) join(ctx context.Context, share Share, m member) (leave func(), err error) {
	h.mu.Lock()
	f := h.feeds[share.watched()]
	if f == nil {
		f = &feed{share: share, ready: make(chan struct{}), members: map[int]member{}}
		h.feeds[share.watched()] = f
		h.watch(f)
	}
	id := f.next
	f.next++
	f.members[id] = m
	h.mu.Unlock()
	leave = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(f.members, id)
		if len(f.members) > 0 {
			return
		}
		f.cancel()
		if h.feeds[share.watched()] == f {
			delete(h.feeds, share.watched())
		}
	}
	select {
	case <-f.ready:
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
	h.mu.Lock()
	failed := f.failed
	h.mu.Unlock()
	if failed != nil {
		leave()
		return nil, failed
	}
	return leave, nil
}

// watch runs the feed. It lives as long as it has members, not as one of them.
func (h *Hub) watch(f *feed) {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	ready := sync.OnceFunc(func() { close(f.ready) })
	w := watch.New(f.share.Host, watch.Options{
		Ignore: ignored(f.share.Ignore),
		Ready:  ready,
		Notice: func(err error) {
			h.mu.Lock()
			f.trouble = err
			h.mu.Unlock()
			if err != nil {
				h.log.Warn("file changes are told late", "folder", f.share.Host, "error", err)
			} else {
				h.log.Info("file changes are told at once again", "folder", f.share.Host)
			}
		},
	})
	go func() {
		err := w.Run(ctx, func(changes []watch.Change) error {
			h.mu.Lock()
			members := slices.Collect(maps.Values(f.members))
			h.mu.Unlock()
			for _, m := range members {
				m.each(changes)
			}
			return nil
		})
		h.mu.Lock()
		defer h.mu.Unlock()
		f.failed = err
		if err != nil {
			for _, m := range f.members {
				m.end(err)
			}
		}
		if h.feeds[f.share.watched()] == f {
			delete(h.feeds, f.share.watched()) // the next one tries anew
		}
		ready()
	}()
}

// errSilent ends a session whose guest does not answer.
var errSilent = errors.New("the guest does not answer")
