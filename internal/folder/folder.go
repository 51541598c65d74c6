// Package folder looks at folders of this host, and waits for none that does not
// answer: on a network disk whose server is gone a system call takes as long as
// that lasts, and no program can end it.
package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
)

// Errors of a look say which folder it is. One that is not there is [fs.ErrNotExist].
var (
	// ErrSilent has a hint.
	ErrSilent    = errors.New("does not answer")
	ErrNotFolder = errors.New("is not a folder")
)

// Patience is enough for a disk that sleeps, and for one that is mounted when it
// is asked for.
const Patience = 5 * time.Second

// Looks are those that are under way. A folder that never answers costs one
// goroutine, which nobody can end, and one Patience, however often and by however
// many it is asked for. The zero value is ready for use.
type Looks struct {
	// Patience is how long a folder may take; 0 is [Patience]. It counts from
	// when the look begins.
	Patience time.Duration

	stat func(dir string) (fs.FileInfo, error) // nil: stat

	mu    sync.Mutex
	under map[errand]*look
}

// errand is what is asked of a folder.
type errand struct {
	dir  string
	make bool
}

// look is under way until done is closed. What it found is in err then.
type look struct {
	late  time.Time // when it counts as unanswered
	done  chan struct{}
	err   error
	ahead bool // nobody has waited for it yet
	over  bool
}

// Begin looks at all of these at once, for [Looks.At] to wait for them together.
func (l *Looks) Begin(dirs ...string) {
	for _, dir := range dirs {
		l.begin(errand{dir: dir}, true)
	}
}

// At returns nil for a folder that is there, and else what is wrong with it: by
// [errors.Is] fs.ErrNotExist, [ErrNotFolder], [ErrSilent], or what the system says.
func (l *Looks) At(ctx context.Context, dir string) error { return l.await(ctx, errand{dir: dir}) }

// Make is os.MkdirAll with mode 0755, or [ErrSilent]: that a folder is not there may
// be known of a server that is gone.
func (l *Looks) Make(ctx context.Context, dir string) error {
	return l.await(ctx, errand{dir, true})
}

func (l *Looks) await(ctx context.Context, e errand) error {
	k := l.begin(e, false)
	timer := time.NewTimer(time.Until(k.late))
	defer timer.Stop()
	select {
	case <-k.done:
		return k.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
	}
	select {
	case <-k.done: // in the same moment
		return k.err
	default:
		return hint.Wrap(fmt.Errorf("%s %w", e.dir, ErrSilent),
			"see whether the disk or network drive that it is on is still there (ls %s hangs as well)", e.dir)
	}
}

// begin returns the look that is under way, or was begun ahead and not waited for, or
// a new one.
func (l *Looks) begin(e errand, ahead bool) *look {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch k := l.under[e]; {
	case k == nil:
	case !k.over:
		k.ahead = k.ahead && ahead
		return k
	case !ahead && time.Now().Before(k.late):
		delete(l.under, e)
		return k
	}
	patience := l.Patience
	if patience == 0 {
		patience = Patience
	}
	k := &look{late: time.Now().Add(patience), done: make(chan struct{}), ahead: ahead}
	if l.under == nil {
		l.under = map[errand]*look{}
	}
	l.under[e] = k
	go func() {
		if e.make {
			k.err = os.MkdirAll(e.dir, 0o755)
		} else {
			k.err = l.wrong(e.dir)
		}
		l.mu.Lock()
		k.over = true
		if !k.ahead {
			delete(l.under, e)
		}
		l.mu.Unlock()
		close(k.done)
	}()
	return k
}

// wrong says what is wrong with a folder, if it takes for ever to.
func (l *Looks) wrong(dir string) error {
	look := l.stat
	if look == nil {
		look = stat
	}
	info, err := look(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing{dir}
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s %w", dir, ErrNotFolder)
	}
	return err
}

// stat is os.Stat that opens a directory as well: a network file system may know
// from before what is there, and hang only then.
func stat(dir string) (fs.FileInfo, error) {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return info, err
	}
	if d, err := os.Open(dir); err == nil {
		d.Close()
	}
	return info, nil
}

type missing struct{ dir string }

func (m missing) Error() string { return m.dir + " does not exist" }
func (m missing) Unwrap() error { return fs.ErrNotExist }
