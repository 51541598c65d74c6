package project

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/hostctl/hostctl/internal/wait"
)

// ErrLocked means that another command is changing the project.
var ErrLocked = errors.New("in use")

// lockInterval is how often a waiter tries: flock has no wait that a context
// could end.
const lockInterval = 50 * time.Millisecond

// Holder is the command that holds the lock. The zero value is one that
// nothing is known about.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"` // for instance "hostctl up"
	Since   time.Time `json:"since"`   // UTC, whole seconds
}

// String returns "hostctl up (pid 123, since 12:03:04)".
func (h Holder) String() string {
	if h.PID == 0 {
		return "another hostctl command"
	}
	return fmt.Sprintf("%s (pid %d, since %s)", h.Command, h.PID, h.Since.Local().Format(time.TimeOnly))
}

// Lock makes this the one command that changes the project, until unlock is
// called or the process ends, however it ends. It creates the state directory
// and the project's identity when they are missing, and gives a *[CopyError]
// in a copied directory.
//
// While another command holds the lock, onWait (may be nil) is told which,
// again when that changes, and Lock waits until ctx ends. Programs started
// under the lock do not inherit it. Lock is not reentrant.
func (p *Project) Lock(ctx context.Context, command string, onWait func(Holder)) (unlock func() error, err error) {
	var (
		held *flock.Flock
		told Holder
	)
	tries := 0
	err = wait.Until(ctx, lockInterval, func(context.Context) error {
		var err error
		held, err = p.tryLock()
		if err != nil {
			return wait.Permanent(p.explain(err))
		}
		if held != nil {
			return nil
		}
		h := p.holder()
		// A new holder needs an instant to write its name.
		tries++
		if onWait != nil && (h.PID != 0 && h != told || h.PID == 0 && tries == 2 && told.PID == 0) {
			told = h
			onWait(h)
		}
		return fmt.Errorf("%w by %s", ErrLocked, h)
	})
	if err != nil {
		return nil, fmt.Errorf("lock project %q: %w", p.dir, err)
	}

	if err := p.enter(held, command); err != nil {
		return nil, errors.Join(err, p.withdraw(held), p.leave(held))
	}
	return sync.OnceValue(func() error { return p.leave(held) }), nil
}

// tryLock returns nil and no error while somebody else has the lock.
func (p *Project) tryLock() (*flock.Flock, error) {
	// Each pass loses against one Destroy of another command at most.
	for {
		if err := os.Mkdir(p.StateDir(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		l := flock.New(filepath.Join(p.StateDir(), lockFile))
		for _, path := range []string{p.StateDir(), l.Path()} {
			if err := refuseLink(path); err != nil {
				return nil, err
			}
		}
		ok, err := l.TryLock()
		if errors.Is(err, fs.ErrNotExist) {
			continue // the directory went away in between
		}
		if err != nil || !ok {
			return nil, err
		}
		// Destroy removes the file under its own lock: whoever had opened it
		// before gets a lock on a file that the next command does not see.
		mine, err := l.Stat()
		if err != nil {
			return nil, errors.Join(err, l.Unlock())
		}
		if current, err := os.Stat(l.Path()); err == nil && os.SameFile(mine, current) {
			return l, nil
		}
		if err := l.Unlock(); err != nil {
			return nil, err
		}
	}
}

// enter brings the state directory in order, as the holder of the lock.
func (p *Project) enter(l *flock.Flock, command string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.destroyed = false
	if err := refuseLinks(p.StateDir()); err != nil {
		return fmt.Errorf("lock project %q: %w", p.dir, err)
	}
	if info, err := os.Stat(p.StateDir()); err == nil && !private(info) {
		if err := os.Chmod(p.StateDir(), 0o700); err != nil {
			return p.explain(err)
		}
	}
	name, err := json.Marshal(Holder{PID: os.Getpid(), Command: command, Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	// Not inside the lock file, which Windows lets nobody read while locked. On
	// a full disk others wait for a stranger: destroy must work there.
	if err := os.WriteFile(filepath.Join(p.StateDir(), holderFile), name, 0o600); err != nil && !isDiskFull(err) {
		return p.explain(err)
	}
	ignore := filepath.Join(p.StateDir(), gitignoreFile)
	if _, err := os.Lstat(ignore); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(ignore, []byte("*\n"), 0o600); err != nil {
			return p.explain(err)
		}
	}
	if err := sweepTemps(p.StateDir(), ".*-*"+tempExt); err != nil {
		return p.explain(err)
	}
	if err := p.settle(); err != nil {
		return err
	}
	p.lock = l
	return nil
}

// withdraw removes what a failed enter has made of a project that was none
// before. Its lock is still held, so that it is nobody else's.
func (p *Project) withdraw(l *flock.Flock) error {
	if _, err := os.Lstat(p.statePath()); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range []string{holderFile, gitignoreFile} {
		if err := ignoreMissing(os.Remove(filepath.Join(p.StateDir(), name))); err != nil {
			return err
		}
	}
	if err := removeLockFile(l); err != nil {
		return err
	}
	// Not empty: there is more in it than hostctl ever put there.
	if err := os.Remove(p.StateDir()); err != nil && !notEmpty(p.StateDir()) {
		return ignoreMissing(err)
	}
	return nil
}

func (p *Project) leave(l *flock.Flock) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lock = nil
	if !p.destroyed {
		// Names of the dead are not believed, so a failure here is harmless.
		_ = os.Remove(filepath.Join(p.StateDir(), holderFile))
	}
	return l.Unlock()
}

// holder returns who says to hold the lock, if that process exists: a killed
// command leaves its name behind.
func (p *Project) holder() Holder {
	data, err := os.ReadFile(filepath.Join(p.StateDir(), holderFile))
	if err != nil {
		return Holder{}
	}
	var h Holder
	if err := json.Unmarshal(data, &h); err != nil || h.PID <= 0 || !alive(h.PID) {
		return Holder{}
	}
	return h
}
