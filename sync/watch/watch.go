// Package watch tells what changes in a folder and everything beneath it.
//
// What the system's notifications say is only taken as a hint where to look.
// What is there is compared with what was there before: so changes that undo
// each other are not told, none is lost where notifications are, and a folder
// that cannot be watched is scanned instead.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Kind is what happened to a path.
type Kind int

const (
	// Created says that there was nothing by the name. What is in a new folder
	// is told as well, each by itself.
	Created Kind = iota + 1
	// Modified says that the contents of a file are others.
	Modified
	// Attributes says that owner, mode or the like are others; for folders, too.
	Attributes
	// Replaced says that the file is another one, and so are its contents: most
	// editors save so. A folder is never replaced: it is removed and created.
	Replaced
	// Removed says that the name is gone, be it by a rename. What was in a
	// folder is told first.
	Removed
)

func (k Kind) String() string {
	return [...]string{"none", "created", "modified", "attributes", "replaced", "removed"}[k]
}

// Change is what became of a path since it was last looked at.
type Change struct {
	Path string // below the folder, with slashes
	Kind Kind
	Mode fs.FileMode // of what is there; of what was removed only the type
	Info fs.FileInfo // as it was found; nil of what was removed
}

// Matcher says what to leave alone. What is in a folder that matches is left
// alone with it.
type Matcher interface {
	Match(path string, dir bool) bool
}

// Options are how to watch. The zero value is good.
type Options struct {
	Ignore Matcher // nil ignores nothing
	// Quiet is how long nothing must have happened before changes are told; 0
	// is 15 ms.
	Quiet time.Duration
	// Longest is how long changes are held back at most while there are ever
	// more of them; 0 is 250 ms.
	Longest time.Duration
	// Interval is how often everything is looked at while not everything can be
	// watched; 0 is 2 s. Large trees are looked at less often: not more than a
	// tenth of the time is spent on it.
	Interval time.Duration
	// Ready is called once, when everything that was there is known: changes
	// from then on are told.
	Ready func()
	// Notice is told what keeps the folder from being watched, [ErrLimit] and
	// [ErrGone] among it, and nil when nothing does any more. Changes are then
	// told later than else, but not lost.
	Notice func(error)
}

const (
	defaultQuiet    = 15 * time.Millisecond
	defaultLongest  = 250 * time.Millisecond
	defaultInterval = 2 * time.Second
	// rootInterval is how often it is made sure that the folder is still the
	// one that is watched: one above it may have been moved.
	rootInterval = time.Second
	// maxBatch is how many changes are told at one time.
	maxBatch = 4096
)

// Sentinels for [Options.Notice], matched with errors.Is.
var (
	// ErrLimit means that the system does not let the user watch any more.
	ErrLimit = errors.New("no more folders can be watched")
	// ErrGone means that the folder is not there. Nothing is told until it is
	// there again, and then what differs.
	ErrGone = errors.New("the folder is gone")
)

// Watcher watches one folder.
type Watcher struct {
	given   string // the folder as it was given
	o       Options
	dirty   dirty
	tree    tree
	notices notices
	source  source
	batch   uint32
	changes []Change
	tell    func([]Change) error // nil while what is there is being learnt
}

// New returns a watcher of a folder. Symbolic links lead to it, but are not
// followed in it.
func New(root string, o Options) *Watcher {
	if o.Quiet == 0 {
		o.Quiet = defaultQuiet
	}
	if o.Longest == 0 {
		o.Longest = defaultLongest
	}
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	w := &Watcher{given: root, o: o, source: source{open: openNotifier}}
	w.notices.tell = o.Notice
	w.dirty.wake = make(chan struct{}, 1)
	w.dirty.paths = map[string]mark{}
	return w
}

// Run watches until ctx ends, which is no error, or each returns an error. It
// calls each with what has changed, one call at a time: what goes on meanwhile
// is told by the next. Changes come in an order in which they can be repeated:
// what is removed before what is made, and a folder before what is in it.
//
// The folder must be there. Run may be called once.
func (w *Watcher) Run(ctx context.Context, each func([]Change) error) error {
	if i, err := os.Stat(w.given); err != nil {
		return err
	} else if !i.IsDir() {
		return &fs.PathError{Op: "watch", Path: w.given, Err: errors.New("not a folder")}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer w.source.close()
	if err := w.all(ctx); err != nil {
		return unlessDone(ctx, err)
	}
	w.tell = each
	if w.o.Ready != nil {
		w.o.Ready()
	}
	return unlessDone(ctx, w.watch(ctx))
}

func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// watch tells changes.
func (w *Watcher) watch(ctx context.Context) error {
	root := time.NewTicker(rootInterval)
	defer root.Stop()
	scanned := time.Now()
	interval := w.o.Interval
	for {
		var scan <-chan time.Time
		var timer *time.Timer
		if w.source.limited {
			timer = time.NewTimer(time.Until(scanned.Add(interval)))
			scan = timer.C
		}
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.dirty.wake:
			if err = w.settle(ctx); err == nil {
				err = w.look(ctx)
			}
		case <-root.C:
			if !w.sameRoot() {
				err = w.all(ctx)
			}
		case <-scan:
			start := time.Now()
			err = w.all(ctx)
			scanned = time.Now()
			interval = max(w.o.Interval, 10*scanned.Sub(start))
		}
		if timer != nil {
			timer.Stop()
		}
		if err != nil {
			return err
		}
	}
}

// settle waits until nothing happens for a while, but not for ever.
func (w *Watcher) settle(ctx context.Context) error {
	timer := time.NewTimer(w.o.Quiet)
	defer timer.Stop()
	for {
		first, last := w.dirty.since()
		until := last.Add(w.o.Quiet)
		if latest := first.Add(w.o.Longest); latest.Before(until) {
			until = latest
		}
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		timer.Reset(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look compares what is at the paths that are dirty with what was there.
func (w *Watcher) look(ctx context.Context) error {
	paths, all := w.dirty.take()
	if all || !w.sameRoot() {
		return w.all(ctx)
	}
	if w.notices.has(ErrGone) {
		return nil
	}
	// What is gone comes first: a folder that was moved can only be watched
	// anew when it is not any more where it was.
	found := make([]fs.FileInfo, len(paths))
	for i, p := range paths {
		info, err := os.Lstat(w.tree.absolute(p.path))
		if err == nil {
			found[i] = info
			continue
		}
		// Any other error tells nothing: what is there stays as it was.
		if isGone(err) {
			if err := w.gone(p.path); err != nil {
				return err
			}
		}
	}
	for i, p := range paths {
		if found[i] == nil {
			continue
		}
		if err := w.there(ctx, p, found[i]); err != nil {
			return err
		}
	}
	return w.flush()
}

// all compares the whole tree.
func (w *Watcher) all(ctx context.Context) error {
	w.dirty.take()
	root, err := filepath.EvalSymlinks(w.given)
	var info fs.FileInfo
	if err == nil {
		info, err = os.Stat(root)
	}
	if err == nil && !info.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		w.notices.report(ErrGone, fmt.Errorf("%w: %w", ErrGone, err))
		return nil
	}
	w.notices.clear(ErrGone)
	w.tree.begin(root, info)
	w.source.start(root, &w.dirty)
	if err := w.list(ctx, w.tree.root, true); err != nil {
		return err
	}
	return w.flush()
}

// sameRoot tells whether the folder is the one that is being watched.
func (w *Watcher) sameRoot() bool {
	info, err := os.Stat(w.given)
	if err != nil {
		return w.tree.root == nil || w.notices.has(ErrGone)
	}
	return !w.notices.has(ErrGone) && w.tree.root != nil && idOf(info) == w.tree.root.id
}
