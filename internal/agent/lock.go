package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/wait"
)

// errOther means that the project has another agent, and that it answers.
var errOther = errors.New("another agent works for the project")

const (
	// handover is how long a new agent waits for the one before it to end.
	handover = 10 * time.Second
	// handoverInterval is how often it tries: flock has no wait that a context
	// could end.
	handoverInterval = 20 * time.Millisecond
)

// hold is the one agent's claim on the project's run directory. The lock goes
// with the process, however that ends, and what else is left of it is taken
// over by the next.
type hold struct {
	files project.AgentFiles
	lock  *flock.Flock
}

// claim becomes the project's agent. It gives [errOther] when there is one.
func claim(ctx context.Context, files project.AgentFiles) (*hold, error) {
	ctx, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	h := &hold{files: files, lock: flock.New(files.Lock, flock.SetPermissions(0o600))}
	err := wait.Until(ctx, handoverInterval, func(ctx context.Context) error {
		ok, err := h.lock.TryLock()
		switch {
		case err != nil:
			return wait.Permanent(err)
		case ok && h.lost():
			// Whoever destroyed the project removed the file in between.
			return errors.Join(errOther, h.lock.Unlock())
		case ok:
			return nil
		}
		// One that is just ending does not answer any more.
		conn, err := dialSocket(ctx, files.Socket)
		if err == nil {
			return errors.Join(wait.Permanent(errOther), conn.Close())
		}
		return fmt.Errorf("%w: %w", errOther, err)
	})
	if err != nil {
		return nil, err
	}
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := os.WriteFile(files.PID, pid, 0o600); err != nil {
		return nil, errors.Join(err, h.lock.Unlock())
	}
	return h, nil
}

// lost reports whether the lock is on a file that others no longer see.
func (h *hold) lost() bool {
	mine, err := h.lock.Stat()
	if err != nil {
		return true
	}
	current, err := os.Stat(h.files.Lock)
	return err != nil || !os.SameFile(mine, current)
}

// listen opens the control socket.
func (h *hold) listen(ctx context.Context) (net.Listener, error) {
	// A killed agent leaves its socket behind.
	if err := os.Remove(h.files.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", h.files.Socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(h.files.Socket, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// release lets the next agent in. The lock file stays: removing it would let
// two agents lock two files of one name.
func (h *hold) release() error {
	var errs []error
	if !h.lost() {
		for _, path := range []string{h.files.Socket, h.files.PID} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(append(errs, h.lock.Unlock())...)
}

// held reports whether some process is the project's agent.
func held(files project.AgentFiles) (bool, error) {
	if _, err := os.Stat(files.Lock); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	l := flock.New(files.Lock, flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	if !ok {
		return true, nil
	}
	return false, l.Unlock()
}

// died reports whether the project had an agent that did not end as it should: it
// has left its number behind, and nobody is in its place.
func died(files project.AgentFiles) bool {
	if _, err := os.Stat(files.PID); err != nil {
		return false
	}
	busy, err := held(files)
	return err == nil && !busy
}

// kill ends an agent that no longer answers. The lock is held, so that the
// number in the file is the holder's.
func kill(files project.AgentFiles) error {
	data, err := os.ReadFile(files.PID)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("%s: no process id: %q", files.PID, data)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(err, p.Release())
	}
	return p.Release()
}

func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}
