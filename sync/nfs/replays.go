package nfs

import (
	"context"
	"hash/maphash"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostctl/hostctl/internal/inode"
)

// A guest's kernel tells programs in it what they and their like do to files,
// never what the host does. So a program in the guest does once more, through
// the mount, what was done on the host, and the server has it do nothing. Such
// a caller shows a group in its credential that the server knows:
//
//   - A name that has just been made is not there for it, until it has made it:
//     it is given the file that is there.
//   - A name that is gone is there, until it has removed it. A file that was made
//     again meanwhile it cannot remove.
//   - Whatever else it changes is as it was, also where the export is read-only.
//
// The group is no secret to the guest's root, and need not be: with it one can
// do less than without.
//
// A program may outlive its replay, as its guest was out of reach, and the server:
// whoever shows a group that no replay has changes nothing at all. What it is about
// to remove because the host had removed it may be there again.

// replayGroups is the first of the 65,536 groups that replays have. It is above
// those that are given to users and containers ("Users, Groups, UIDs and GIDs on
// systemd Systems").
const replayGroups = 0x78630000

// Replays are the callers that servers have do nothing. They outlive a server,
// and may be shared by several that serve exports of different names.
type Replays struct {
	mu      sync.Mutex
	by      map[uint32]*Replay
	some    atomic.Bool // there are any
	origins origins
}

// NewReplays is for [Config.Replays].
func NewReplays() *Replays {
	return &Replays{by: map[uint32]*Replay{}, origins: newOrigins()}
}

// Replay is one such caller: one program in a guest.
type Replay struct {
	all   *Replays
	group uint32
	ended bool          // it is of before, and not in by
	guest atomic.Uint64 // by the name it gives itself

	mu       sync.Mutex
	expected map[string]*Step // by export, a slash, and path
	ghosts   map[uint64]ghost // by number
	next     uint64
}

// Step is a change that is about to be made once more.
type Step struct {
	Path    string // in the export, with slashes
	Removed bool   // else it was made
	Dir     bool

	ghost uint64 // number of what stands for a file that is gone
	done  bool
}

// ghost stands for a file that is gone.
type ghost struct {
	path string // with the export
	dir  bool
}

// Begin has a new caller known. Close it when its program has ended.
func (a *Replays) Begin() *Replay {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := &Replay{all: a, ghosts: map[uint64]ghost{}}
	for r.group == 0 || a.by[r.group] != nil {
		r.group = replayGroups + uint32(rand.N(1<<16))
	}
	a.by[r.group] = r
	a.some.Store(true)
	return r
}

// Close has the caller be one that changes nothing.
func (r *Replay) Close() {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	delete(r.all.by, r.group)
	r.all.some.Store(len(r.all.by) > 0)
}

// Group is the group by which the caller is known.
func (r *Replay) Group() uint32 { return r.group }

// Expect says what the caller will make or remove next in the export. It
// replaces what was expected before in any.
func (r *Replay) Expect(export string, steps []Step) {
	expected := make(map[string]*Step, len(steps))
	for i := range steps {
		s := steps[i]
		expected[export+"/"+s.Path] = &s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expected, r.ghosts = expected, map[uint64]ghost{}
}

// of returns the replay that a caller in the group is, if it is one, or was.
func (a *Replays) of(group uint32) *Replay {
	if group&^0xffff != replayGroups {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.by[group]; r != nil {
		return r
	}
	return &Replay{all: a, group: group, ended: true}
}

// step returns what is expected to become of a path, nil if nothing is or it
// has been done.
func (r *Replay) step(p string) *Step {
	s := r.expected[p]
	if s == nil || s.done {
		return nil
	}
	return s
}

// made notes that a path was made once more.
func (r *Replay) made(p string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.step(p); s != nil && !s.Removed {
		s.done = true
	}
}

// hides tells whether a path that exists is not there yet for the caller.
func (r *Replay) hides(p string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.step(p)
	return s != nil && !s.Removed
}

// haunts returns the ghost of a path that is expected to be removed.
func (r *Replay) haunts(p string) (id uint64, g ghost, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.step(p)
	if s == nil || !s.Removed {
		return 0, ghost{}, false
	}
	if s.ghost == 0 {
		r.next++
		s.ghost = 1<<63 | 1<<62 | uint64(r.group&0xffff)<<40 | r.next&(1<<40-1)
		r.ghosts[s.ghost] = ghost{p, s.Dir}
	}
	return s.ghost, r.ghosts[s.ghost], true
}

// removes tells whether the caller is expected to remove a file by the path.
func (r *Replay) removes(p string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.step(p)
	return s != nil && s.Removed && !s.Dir
}

func (r *Replay) ghost(id uint64) (ghost, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.ghosts[id]
	return g, ok
}

// origins remember what guests have changed through the server: a guest needs
// not to be told what it did itself.
type origins struct {
	under atomic.Int64 // calls that change something under way

	seed maphash.Seed
	mu   sync.Mutex
	by   map[uint64]origin
	old  [maxOrigins]uint64 // in a ring
	next int
}

// origin is who made a change.
type origin struct {
	guest uint64
	at    time.Time
}

const (
	maxOrigins = 1 << 15
	// keepOrigin is how long names that guests have changed are remembered.
	keepOrigin = 10 * time.Second
)

func newOrigins() origins {
	return origins{seed: maphash.MakeSeed(), by: map[uint64]origin{}}
}

func (o *origins) note(key, guest uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.by[key]; !ok {
		delete(o.by, o.old[o.next])
		o.old[o.next] = key
		o.next = (o.next + 1) % maxOrigins
	}
	o.by[key] = origin{guest, time.Now()}
}

func (o *origins) of(key uint64) (origin, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was, ok := o.by[key]
	return was, ok
}

func (o *origins) forget(key uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.by, key)
}

// state is what is known of a file that has the inode and was changed then.
func (o *origins) state(export string, ino uint64, changed time.Time) uint64 {
	return maphash.Comparable(o.seed, struct {
		export string
		ino    uint64
		sec    int64
		nsec   int
	}{export, ino, changed.Unix(), changed.Nanosecond()})
}

// name is what is known of a name that a guest has made, or removed.
func (o *origins) name(export, p string, removed bool) uint64 {
	return maphash.Comparable(o.seed, struct {
		path    string
		removed bool
	}{export + "/" + p, removed})
}

// Settle waits for the calls that guests have under way, though not for long:
// what [Replay.Made] says of a change that has been seen holds then.
func (r *Replay) Settle(ctx context.Context) {
	if r.all.origins.under.Load() == 0 {
		return
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 50 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if r.all.origins.under.Load() == 0 {
			return
		}
	}
}

// Made tells whether it was the caller's own guest that made a change. info is
// what was found at the path, nil when it was removed; created says that
// nothing was there before.
//
// A change of the host to a file that the guest changed in the same moment, a
// tick of the file system's clock, passes for the guest's.
func (r *Replay) Made(export, p string, created bool, info fs.FileInfo) bool {
	o := &r.all.origins
	guest := r.guest.Load()
	if guest == 0 {
		return false // has not called yet
	}
	changed := time.Time{}
	if info != nil {
		i, ok := inode.Of(info)
		if !ok {
			return false
		}
		if was, ok := o.of(o.state(export, i.Number, i.Changed)); ok && was.guest == guest {
			return true
		}
		if !created {
			return false
		}
		changed = i.Changed
	}
	// The name itself, or a folder above it, may have been renamed.
	for at := p; at != "."; at = path.Dir(at) {
		was, ok := o.of(o.name(export, at, info == nil))
		if ok && was.guest == guest && time.Since(was.at) < keepOrigin && !changed.After(was.at) {
			return true
		}
	}
	if created {
		o.forget(o.name(export, p, true)) // when it goes it goes anew
	}
	return false
}
