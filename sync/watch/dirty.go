package watch

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// maxDirty paths are remembered. Of more only that there were more: then the
// whole tree is looked at.
const maxDirty = 1 << 14

// mark is what is to be looked at.
type mark struct {
	path  string
	wrote bool // the contents were written to, if it is a file
	anew  bool // it may be another than before, and its watch may be lost
}

// dirty is what notifications have pointed at.
type dirty struct {
	wake        chan struct{} // has an element when there is something
	mu          sync.Mutex
	paths       map[string]mark
	all         bool
	first, last time.Time
}

func (d *dirty) add(m mark) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touch()
	if d.all {
		return
	}
	old := d.paths[m.path]
	m.wrote, m.anew = m.wrote || old.wrote, m.anew || old.anew
	d.paths[m.path] = m
	if len(d.paths) > maxDirty {
		d.everything()
	}
}

// lost notes that notifications were lost.
func (d *dirty) lost() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touch()
	d.everything()
}

func (d *dirty) everything() {
	d.all = true
	d.paths = map[string]mark{}
}

func (d *dirty) touch() {
	d.last = time.Now()
	if d.first.IsZero() {
		d.first = d.last
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// since returns when the first and the last notification came.
func (d *dirty) since() (first, last time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first, d.last
}

// take returns what is dirty, folders before what is in them, and has it clean.
func (d *dirty) take() (marks []mark, all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.wake:
	default:
	}
	for _, m := range d.paths {
		marks = append(marks, m)
	}
	slices.SortFunc(marks, func(a, b mark) int { return strings.Compare(a.path, b.path) })
	all = d.all
	d.paths, d.all = map[string]mark{}, false
	d.first, d.last = time.Time{}, time.Time{}
	return marks, all
}
