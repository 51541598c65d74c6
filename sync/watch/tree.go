package watch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// tree is what was there when it was looked at last.
type tree struct {
	path string // of the folder, absolute and without links
	root *dir
}

// dir is a folder that is known.
type dir struct {
	path    string // below the root; "" is the root
	id      uint64
	watched uint32 // the run of source in which it was watched last
	entries map[string]*entry
}

// entry is a name in a folder that is known.
type entry struct {
	id       uint64 // of the file
	contents uint64 // changes with size and modification time
	meta     uint64 // changes with what else a file has
	mode     fs.FileMode
	batch    uint32 // in which it was told last
	// fresh says that the file had just been changed when it was looked at: the
	// clock of the file system is too coarse to show another change.
	fresh bool
	dir   *dir
}

// freshness is more than a tick of any file system's clock but FAT's.
const freshness = 50 * time.Millisecond

func newEntry(info fs.FileInfo) *entry {
	e := &entry{id: idOf(info), mode: info.Mode(), contents: mix(uint64(info.Size()), uint64(info.ModTime().UnixNano()))}
	changed, owner := changeOf(info)
	e.meta = mix(uint64(info.Mode()), owner)
	if info.IsDir() {
		e.contents = 0 // whatever is made in it changes its time
		return e
	}
	e.meta = mix(e.meta, uint64(changed.UnixNano()))
	e.fresh = time.Since(changed) < freshness
	return e
}

// mix makes one number of two.
func mix(a, b uint64) uint64 {
	h := a*0x9e3779b97f4a7c15 ^ b*0xbf58476d1ce4e5b9
	h ^= h >> 29
	return h * 0x94d049bb133111eb
}

// begin has the folder be at path. What was known of it stays to be compared.
func (t *tree) begin(path string, info fs.FileInfo) {
	if t.root == nil {
		t.root = &dir{entries: map[string]*entry{}}
	}
	if id := idOf(info); t.path != path || t.root.id != id {
		t.path, t.root.id = path, id
		t.root.watched = 0
	}
}

// absolute returns a path for the system.
func (t *tree) absolute(p string) string { return filepath.Join(t.path, filepath.FromSlash(p)) }

// find returns the folder at p, nil if none is known there.
func (t *tree) find(p string) *dir {
	d := t.root
	for p != "" && d != nil {
		name, rest, _ := strings.Cut(p, "/")
		e := d.entries[name]
		if e == nil {
			return nil
		}
		d, p = e.dir, rest
	}
	return d
}

// split returns the folder that p is in, nil if it is not known, and its name.
func (t *tree) split(p string) (*dir, string) {
	dirPath, name := path.Split(p)
	return t.find(strings.TrimSuffix(dirPath, "/")), name
}

func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// gone has it that nothing is at p.
func (w *Watcher) gone(p string) error {
	if d, name := w.tree.split(p); d != nil && d.entries[name] != nil {
		return w.drop(d, name)
	}
	return nil
}

// drop forgets what is known of a name, and tells that it is gone.
func (w *Watcher) drop(d *dir, name string) error {
	e := d.entries[name]
	if e.dir != nil {
		for child := range e.dir.entries {
			if err := w.drop(e.dir, child); err != nil {
				return err
			}
		}
		w.source.remove(w.tree.absolute(e.dir.path), e.dir)
	}
	delete(d.entries, name)
	return w.emit(Change{Path: path.Join(d.path, name), Kind: Removed, Mode: e.mode.Type()})
}

// there compares what is at a path with what is known of it.
func (w *Watcher) there(ctx context.Context, m mark, info fs.FileInfo) error {
	d, name := w.tree.split(m.path)
	if d == nil {
		return nil // comes with the folder, or is in one that is ignored
	}
	return w.meet(ctx, d, name, info, m, false)
}

func (w *Watcher) ignored(p string, isDir bool) bool {
	return w.o.Ignore != nil && w.o.Ignore.Match(p, isDir)
}

// meet compares what is in d by the name. deep has known folders compared as
// well.
func (w *Watcher) meet(ctx context.Context, d *dir, name string, info fs.FileInfo, m mark, deep bool) error {
	p := path.Join(d.path, name)
	old := d.entries[name]
	if w.ignored(p, info.IsDir()) {
		if old != nil {
			return w.drop(d, name)
		}
		return nil
	}
	now := newEntry(info)
	if old != nil && (old.mode.Type() != now.mode.Type() || old.id != now.id) {
		if old.dir == nil && !info.IsDir() {
			d.entries[name] = now
			return w.emitEntry(now, Change{p, Replaced, now.mode, info})
		}
		if err := w.drop(d, name); err != nil {
			return err
		}
		old = nil
	}
	if old == nil {
		d.entries[name] = now
		if err := w.emitEntry(now, Change{p, Created, now.mode, info}); err != nil || !info.IsDir() {
			return err
		}
		now.dir = &dir{path: p, id: now.id, entries: map[string]*entry{}}
		return w.list(ctx, now.dir, true)
	}
	now.batch, now.dir = old.batch, old.dir
	d.entries[name] = now
	var err error
	switch {
	case old.contents != now.contents, old.fresh && (m.wrote || deep) && old.dir == nil:
		err = w.emitEntry(now, Change{p, Modified, now.mode, info})
	case old.meta != now.meta:
		err = w.emitEntry(now, Change{p, Attributes, now.mode, info})
	}
	if err != nil || now.dir == nil {
		return err
	}
	if m.anew || m.wrote {
		if m.anew {
			now.dir.watched = 0
		}
		return w.list(ctx, now.dir, deep)
	}
	if deep {
		return w.list(ctx, now.dir, true)
	}
	return nil
}

// list compares what is in a folder, and watches it first: what comes later is
// notified.
func (w *Watcher) list(ctx context.Context, d *dir, deep bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	abs := w.tree.absolute(d.path)
	if d.watched != w.source.run || w.source.n == nil {
		if err := w.source.add(abs, d); err != nil {
			w.notices.report(ErrLimit, err)
		}
	}
	found, err := os.ReadDir(abs)
	if err != nil {
		return nil // gone again, which will be notified, or not for us to read
	}
	names := make(map[string]bool, len(found))
	for _, f := range found {
		names[f.Name()] = true
	}
	for name := range d.entries {
		if !names[name] {
			if err := w.drop(d, name); err != nil {
				return err
			}
		}
	}
	for _, f := range found {
		info, err := f.Info()
		if err != nil {
			continue // gone again
		}
		if err := w.meet(ctx, d, f.Name(), info, mark{}, deep); err != nil {
			return err
		}
	}
	return nil
}

// emitEntry tells a change, unless the path was told of in the same batch:
// whoever looks then sees what there is now.
func (w *Watcher) emitEntry(e *entry, c Change) error {
	if e.batch == w.batch && w.tell != nil {
		return nil
	}
	e.batch = w.batch
	return w.emit(c)
}

func (w *Watcher) emit(c Change) error {
	if w.tell == nil {
		return nil
	}
	w.changes = append(w.changes, c)
	if len(w.changes) >= maxBatch {
		return w.flush()
	}
	return nil
}

// flush tells the changes that have been found.
func (w *Watcher) flush() error {
	if !w.source.limited {
		w.notices.clear(ErrLimit)
	}
	w.batch++
	if len(w.changes) == 0 {
		return nil
	}
	changes := w.changes
	w.changes = nil
	return w.tell(changes)
}
