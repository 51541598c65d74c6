//go:build linux || darwin

package nfs

import (
	"container/list"
	"sync"
	"time"
)

const (
	// maxOpen descriptors are kept of an export.
	maxOpen = 512
	// A file that a guest wrote is closed soon: the host cannot run a program
	// while it is open for writing, and is told of changes when it is closed.
	idleWritten = time.Second
	idleRead    = 30 * time.Second
)

// files keeps descriptors open from one request to the next.
type files struct {
	sweeping sync.Mutex // held by a sweep

	mu    sync.Mutex
	open  map[*node]*file
	used  list.List // of *file, the most recently used first
	limit int
	ended bool  // keeps nothing any more
	dead  []int // descriptors that unlock closes
}

// file is an open descriptor. Whoever has one releases it.
type file struct {
	fd       int
	writable bool

	of    *files
	node  *node
	refs  int // the cache's own is one
	used  time.Time
	place *list.Element // nil when it is not in the cache any more
}

func newFiles() *files { return &files{open: map[*node]*file{}, limit: maxOpen} }

// get returns what is open for n, or nil.
func (c *files) get(n *node, write bool) *file {
	c.mu.Lock()
	defer c.unlock()
	f := c.open[n]
	if f == nil || write && !f.writable {
		return nil
	}
	f.refs++
	f.used = time.Now()
	c.used.MoveToFront(f.place)
	return f
}

// put takes fd over. What was open for n before ends when nobody uses it.
func (c *files) put(n *node, fd int, writable bool) *file {
	f := &file{fd: fd, writable: writable, of: c, node: n, refs: 2, used: time.Now()}
	c.mu.Lock()
	defer c.unlock()
	if c.ended {
		f.refs = 1 // of a request that is still under way
		return f
	}
	if old := c.open[n]; old != nil {
		c.remove(old)
	}
	c.open[n] = f
	f.place = c.used.PushFront(f)
	for len(c.open) > c.limit {
		c.remove(c.used.Back().Value.(*file))
	}
	return f
}

func (c *files) drop(n *node) {
	c.mu.Lock()
	defer c.unlock()
	if f := c.open[n]; f != nil {
		c.remove(f)
	}
}

// remove takes f out of the cache. c.mu is held.
func (c *files) remove(f *file) {
	c.used.Remove(f.place)
	f.place = nil
	delete(c.open, f.node)
	c.unref(f)
}

func (c *files) unref(f *file) {
	if f.refs--; f.refs == 0 {
		c.dead = append(c.dead, f.fd)
	}
}

// unlock ends what c.mu was held for, and closes what nobody uses any more: it
// can take long, and others wait for c.mu.
func (c *files) unlock() {
	dead := c.dead
	c.dead = nil
	c.mu.Unlock()
	for _, fd := range dead {
		closeFD(fd)
	}
}

func (f *file) release() {
	f.of.mu.Lock()
	defer f.of.unlock()
	f.of.unref(f)
}

// sweep closes what was idle for long, unless the last sweep is still at it.
func (c *files) sweep(now time.Time) {
	if !c.sweeping.TryLock() {
		return
	}
	defer c.sweeping.Unlock()
	c.mu.Lock()
	defer c.unlock()
	for e := c.used.Back(); e != nil; {
		f := e.Value.(*file)
		e = e.Prev()
		idle := now.Sub(f.used)
		if f.refs == 1 && (idle > idleRead || f.writable && idle > idleWritten) {
			c.remove(f)
		}
	}
}

// close ends the cache. Requests that are under way keep what they have. It does
// not wait for what it closes.
func (c *files) close() {
	c.mu.Lock()
	c.ended = true
	for _, f := range c.open {
		c.remove(f)
	}
	go c.unlock() // where closing hangs, so does this
}
