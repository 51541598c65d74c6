package watch

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/hostctl/hostctl/internal/hint"
)

// notifier is what the system tells changes by.
type notifier interface {
	Add(path string) error
	Remove(path string) error
	Close() error
}

// source notes which folders the system tells of.
type source struct {
	open    func() (notifier, <-chan fsnotify.Event, <-chan error, error)
	n       notifier
	root    string
	run     uint32             // counts up with every notifier
	at      map[uint64]watched // by the folder's id
	limited bool               // something is not watched
}

// watched is a folder that is watched.
type watched struct {
	path string
	dir  *dir
}

func openNotifier() (notifier, <-chan fsnotify.Event, <-chan error, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, nil, nil, err
	}
	return n, n.Events, n.Errors, nil
}

// start gets the system to tell of the folder root, if it does not yet. What is
// not watched is tried anew.
func (s *source) start(root string, d *dirty) {
	s.limited = false
	if s.n != nil && s.root == root {
		return
	}
	s.close()
	n, events, errs, err := s.open()
	if err != nil {
		return // add says so
	}
	s.n, s.root, s.at = n, root, map[uint64]watched{}
	s.run++
	go follow(root, events, d)
	go func() {
		for range errs {
			// Overflows, and what a system does not say more about.
			d.lost()
		}
	}()
}

// rest is less than anybody waits for more to happen.
const rest = defaultQuiet / 3 * 2

// follow notes what events are about. After one that it has waited for it rests,
// and takes at one time what has come meanwhile: of a busy folder the system
// would wake it thousands of times a second.
func follow(root string, events <-chan fsnotify.Event, d *dirty) {
	for {
		since := time.Now()
		e, ok := <-events
		if !ok {
			return
		}
		note(root, e, d)
		if time.Since(since) > rest/100 {
			<-time.After(rest)
		}
	}
}

// note has looked at what an event is about.
func note(root string, e fsnotify.Event, d *dirty) {
	if e.Name == "" || e.Op == 0 {
		return
	}
	rest, ok := strings.CutPrefix(e.Name, root)
	if !ok {
		return
	}
	p := strings.TrimPrefix(filepath.ToSlash(rest), "/")
	if p == "" {
		// The folder itself. When it is another one now, that is found out by
		// whoever looks at anything.
		if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
			d.lost()
		}
		return
	}
	d.add(mark{path: p, wrote: e.Has(fsnotify.Write), anew: e.Has(fsnotify.Create) || e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)})
}

// add watches a folder. The error is one to tell.
func (s *source) add(path string, d *dir) error {
	if s.limited {
		return nil // was told
	}
	if s.n == nil {
		return s.limit(errors.New("the system has no more notifications to give"))
	}
	// A folder that was moved is known to the system by its old path, and would
	// stay so.
	if old, ok := s.at[d.id]; ok && d.id != 0 {
		old.dir.watched = 0
		_ = s.n.Remove(old.path) // it may have ended with the move
	}
	_ = s.n.Remove(path) // that of a folder that is no more
	err := s.n.Add(path)
	switch {
	case err == nil:
		d.watched = s.run
		s.at[d.id] = watched{path, d}
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return s.limit(err)
	}
	return nil // gone again, or not for us to see
}

func (s *source) limit(err error) error {
	s.limited = true
	return hint.Wrap(fmt.Errorf("%w: %w", ErrLimit, err), limitHint)
}

// remove ends the watch of a folder that is gone from path.
func (s *source) remove(path string, d *dir) {
	if s.n == nil {
		return
	}
	if at, ok := s.at[d.id]; d.id != 0 && (!ok || at.dir != d) {
		return // it was moved, and is watched where it is now
	}
	delete(s.at, d.id)
	_ = s.n.Remove(path) // usually the system has ended it
}

func (s *source) close() {
	if s.n != nil {
		_ = s.n.Close() // nothing is lost by it
		s.n = nil
	}
}
