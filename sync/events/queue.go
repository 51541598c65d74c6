package events

import (
	"cmp"
	"io/fs"
	"slices"
	"sync"

	"github.com/hostctl/hostctl/sync/watch"
)

// maxPending paths wait to be told to a guest. Of what comes then only the
// folder is told, as having changed.
const maxPending = 10_000

// queue is what a guest is still to be told. What happens to one path comes
// together: the guest is told what a program that looks now must know.
type queue struct {
	wake    chan struct{} // has an element when there is something
	mu      sync.Mutex
	pending map[key]*todo
}

// key is a path in a share.
type key struct {
	share int
	path  string
}

// todo is what is to be told of a path, in this order.
type todo struct {
	key
	remove    bool
	removeDir bool // what is removed is a folder
	create    bool
	replace   bool        // another file has the name
	mode      fs.FileMode // of what is there
	write     bool
	attribute bool
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), pending: map[key]*todo{}}
}

func (q *queue) add(share int, c watch.Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := key{share, c.Path}
	t := q.pending[k]
	if t == nil {
		if len(q.pending) >= maxPending {
			k.path, c = parent(c.Path), watch.Change{Kind: watch.Attributes, Mode: fs.ModeDir}
			t = q.pending[k]
		}
		if t == nil {
			t = &todo{key: k}
			q.pending[k] = t
		}
	}
	t.add(c)
	if *t == (todo{key: k}) {
		delete(q.pending, k) // came and went
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (t *todo) add(c watch.Change) {
	if c.Kind != watch.Removed {
		t.mode = c.Mode
	}
	full := c.Mode.IsRegular() && c.Info != nil && c.Info.Size() > 0
	switch c.Kind {
	case watch.Created, watch.Replaced:
		// A file must not be gone for a moment in the guest that is not on the host.
		t.replace = !t.create && (c.Kind == watch.Replaced || t.remove && !t.removeDir && !c.Mode.IsDir())
		t.write = full
		if t.replace {
			t.remove, t.attribute = false, !full // it is told of anyhow
		} else {
			t.create = true
		}
	case watch.Modified:
		t.write = true
	case watch.Attributes:
		t.attribute = true
	case watch.Removed:
		was := *t
		*t = todo{key: t.key, remove: was.remove, removeDir: was.removeDir}
		if !was.create {
			t.remove, t.removeDir = true, c.Mode.IsDir()
		}
	}
}

// take returns everything, by path.
func (q *queue) take() []*todo {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]*todo, 0, len(q.pending))
	for _, t := range q.pending {
		all = append(all, t)
	}
	q.pending = map[key]*todo{}
	slices.SortFunc(all, func(a, b *todo) int {
		return cmp.Or(cmp.Compare(a.share, b.share), cmp.Compare(a.path, b.path))
	})
	return all
}
