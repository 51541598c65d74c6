package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hostctl/hostctl/internal/hint"
)

// maxRunDir is how long a run directory may be, in bytes. A socket's path is
// limited to 103 bytes on macOS and 107 on Linux, including the file name.
const maxRunDir = 76

// RunDir returns the project's directory for sockets, made (0700) and checked:
// nobody else can have put a socket there. It is at most 76 bytes long however
// deep the project lies; file names in it should not exceed 24.
//
// The place is chosen by the first [Project.Lock] and recorded, so that a
// command in another session, with other variables, finds the same sockets:
// $XDG_STATE_HOME/hostctl/run/ID, or where that is too long
// $XDG_RUNTIME_DIR/hostctl/ID or TMPDIR/hostctl-UID/ID. A project without state
// gives [ErrNoState].
func (p *Project) RunDir() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runDir == "" {
		if _, _, err := p.load(); err != nil {
			return "", err
		}
	}
	if p.runDir == "" {
		return "", ErrNoState
	}
	return p.runDir, makeRunDir(p.runDir)
}

// settleRunDir makes a usable run directory and writes the state: the recorded
// one unless the directory it lies in is gone (a session's ends with the
// session). Recorded before it is made, so that a kill in between leaves
// nothing that no state knows of.
func (p *Project) settleRunDir(s *State, old []byte) error {
	var candidates []string
	if s.RunDir != "" {
		candidates = append(candidates, s.RunDir)
	}
	// Guests outlive the session, and $XDG_RUNTIME_DIR does not: then they
	// could no longer be asked to shut down.
	home := filepath.Join(p.stateHome, runParent)
	if err := os.MkdirAll(home, 0o700); err == nil {
		candidates = append(candidates, filepath.Join(home, runDirs, s.ID))
	}
	if filepath.IsAbs(p.runtime) {
		candidates = append(candidates, filepath.Join(p.runtime, runParent, s.ID))
	}
	for _, tmp := range tempDirs() {
		candidates = append(candidates, filepath.Join(tmp, tempRunParent(), s.ID))
	}
	var failed []error
	for _, dir := range candidates {
		if len(dir) > maxRunDir {
			failed = append(failed, fmt.Errorf("%s: longer than %d bytes", dir, maxRunDir))
			continue
		}
		s.RunDir = dir
		if err := p.save(s, old); err != nil {
			return err
		}
		old = nil
		err := makeRunDir(dir)
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	return fmt.Errorf("no place for sockets: %w", errors.Join(failed...))
}

const (
	runParent = indexDir
	runDirs   = "run"
)

// isRunDir reports whether dir could be the run directory of project id. Such
// a directory is removed by Destroy, so the state file's word is not enough.
func isRunDir(dir, id string) bool {
	parent := filepath.Dir(dir)
	if filepath.Base(parent) == runDirs {
		parent = filepath.Dir(parent)
	}
	return filepath.IsAbs(dir) && filepath.Clean(dir) == dir && filepath.Base(dir) == id &&
		(filepath.Base(parent) == runParent || filepath.Base(parent) == tempRunParent())
}

// makeRunDir creates dir and its parent, and refuses what others could have
// made before: in a shared directory like /tmp, names are anybody's.
func makeRunDir(dir string) error {
	parent := filepath.Dir(dir)
	base, err := os.Stat(filepath.Dir(parent))
	if err != nil {
		return err
	}
	if !base.IsDir() || base.Mode().Perm()&0o022 != 0 && base.Mode()&fs.ModeSticky == 0 && checksOwners {
		return fmt.Errorf("%s: others can rename directories in it", filepath.Dir(parent))
	}
	for _, d := range []string{parent, dir} {
		err := os.Mkdir(d, 0o700)
		if errors.Is(err, fs.ErrNotExist) {
			// Another project's Destroy removed the empty parent just now.
			err = errors.Join(ignoreExists(os.Mkdir(parent, 0o700)), os.Mkdir(d, 0o700))
		}
		if err := ignoreExists(err); err != nil {
			return err
		}
		info, err := os.Lstat(d)
		if err != nil {
			return err
		}
		if !info.IsDir() || !private(info) {
			return hint.Wrap(fmt.Errorf("%s: not a directory of yours alone", d),
				"somebody made it, or opened it to others: remove it and repeat the command")
		}
	}
	return nil
}

func ignoreExists(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// removeRunDir removes dir, and its parent when that was the last project's.
func removeRunDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.Remove(parent); err != nil && !errors.Is(err, fs.ErrNotExist) && !notEmpty(parent) {
		return err
	}
	return nil
}
