// Package project keeps what outlives a command: the state directory beside
// the machine file, the lock that lets one command at a time change it, the
// project's identity and keys, and the index of all projects of the user.
package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"github.com/hostctl/hostctl/internal/hint"
)

// Sentinels, matched with errors.Is.
var (
	// ErrNotLocked means that something was changed without [Project.Lock].
	ErrNotLocked = errors.New("the project is not locked")
	// ErrNoState means that nothing has been made in the project yet.
	ErrNoState = errors.New("no machines were made here yet")
)

// Options says where the user's directories are.
type Options struct {
	StateHome  string // $XDG_STATE_HOME or what stands for it; must be absolute
	RuntimeDir string // $XDG_RUNTIME_DIR; "" where there is none
}

// Project is the directory of one machine file. It is safe for concurrent use.
type Project struct {
	dir     string
	index   *Index
	runtime string

	stateHome string

	keys sync.Mutex // held while a key pair is read or made

	mu        sync.Mutex
	lock      *flock.Flock // held by this value, or nil
	destroyed bool         // under the present lock
	id        string       // "" until Load or Lock has seen one
	runDir    string       // as recorded in the state
}

// Open returns the project in dir, which must exist. It creates nothing.
func Open(dir string, o Options) (*Project, error) {
	if !filepath.IsAbs(o.StateHome) {
		return nil, fmt.Errorf("state home %q is not an absolute path", o.StateHome)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// One project has one path, however the user came to it: copies are told
	// from the original by comparing paths.
	abs, err = filepath.EvalSymlinks(abs)
	if err != nil {
		return nil, fmt.Errorf("project directory: %w", err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return nil, fmt.Errorf("project directory: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("project directory %q: not a directory", abs)
	}
	return &Project{dir: abs, index: NewIndex(o.StateHome), runtime: o.RuntimeDir, stateHome: o.StateHome}, nil
}

// Dir returns the project directory: absolute, without links.
func (p *Project) Dir() string { return p.dir }

// StateDir returns the directory of everything hostctl keeps for the project.
func (p *Project) StateDir() string { return filepath.Join(p.dir, stateDir) }

// MachinesDir returns the directory that holds one directory per machine.
func (p *Project) MachinesDir() string { return filepath.Join(p.dir, stateDir, machinesDir) }

// MachineDir returns the machine's directory: overlay, config, serial log.
func (p *Project) MachineDir(name string) string { return filepath.Join(p.MachinesDir(), name) }

// MachineDirs returns the names of the machines that have a directory, known
// to the state or not.
func (p *Project) MachineDirs() ([]string, error) {
	entries, err := os.ReadDir(p.MachinesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && validName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// CheckWritable finds out whether hostctl can keep something in the project,
// before work that would be lost if not. It leaves nothing behind.
func (p *Project) CheckWritable() error {
	dir := p.dir
	if p.Exists() {
		dir = p.StateDir()
	}
	f, err := os.CreateTemp(dir, ".hostctl-*"+tempExt)
	if err != nil {
		return p.explain(err)
	}
	return p.explain(errors.Join(f.Close(), os.Remove(f.Name())))
}

// Exists reports whether the state directory is there, even if no machine is.
func (p *Project) Exists() bool {
	_, err := os.Lstat(p.StateDir())
	return err == nil
}

// ID returns the project's random identity, 12 hex digits. It is made by the
// first [Project.Lock], stays when the directory is moved, and is "" until
// Load or Lock has seen it.
func (p *Project) ID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id
}

// MakeMachineDir creates the machine's directory (0700) under the lock.
func (p *Project) MakeMachineDir(name string) error {
	if !p.locked() {
		return ErrNotLocked
	}
	if err := validName(name); err != nil {
		return err
	}
	for _, dir := range []string{p.MachinesDir(), p.MachineDir(name)} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return p.explain(err)
		}
	}
	return p.explain(sweepTemps(p.MachineDir(name), ".*-*"+tempExt))
}

// RemoveMachine removes the machine's directory, then its state. What the
// provider made must be gone already. An unknown machine is not an error.
func (p *Project) RemoveMachine(name string) error {
	if err := p.removeMachineDir(name); err != nil {
		return err
	}
	return p.Update(func(s *State) error {
		delete(s.Machines, name)
		for _, ms := range s.Machines {
			if ms.Provider == libvirtProvider {
				return nil
			}
		}
		s.LibvirtURI, s.LibvirtPool = "", "" // the next one may be elsewhere
		return nil
	})
}

// RenewMachine removes the machine's directory and makes it one that is yet to
// be made, with another domain id. It keeps the host ports and addresses that it
// was assigned. What the provider made must be gone already.
func (p *Project) RenewMachine(name, id string) error {
	if err := p.removeMachineDir(name); err != nil {
		return err
	}
	return p.Update(func(s *State) error {
		old := s.Machines[name]
		s.Machines[name] = MachineState{Provider: old.Provider, DomainID: id, Forwards: old.Forwards, NICs: old.NICs}
		return nil
	})
}

func (p *Project) removeMachineDir(name string) error {
	if !p.locked() {
		return ErrNotLocked
	}
	if err := validName(name); err != nil {
		return err
	}
	return p.explain(os.RemoveAll(p.MachineDir(name)))
}

// Destroy removes the state directory, the run directory and the index entry
// under the lock. The lock itself stays held, on a file that no longer exists,
// until its unlock function is called. Whatever instant it is interrupted at,
// it can be repeated.
func (p *Project) Destroy() error {
	if !p.locked() {
		return ErrNotLocked
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The state file knows where the rest is: it goes last.
	if p.runDir != "" {
		if err := removeRunDir(p.runDir); err != nil {
			return err
		}
	}
	if p.id != "" {
		if err := p.index.Remove(p.id); err != nil {
			return err
		}
	}
	// Disks before state: an overlay without state could be taken for one to
	// go on with.
	if err := os.RemoveAll(p.MachinesDir()); err != nil {
		return p.explain(err)
	}
	entries, err := os.ReadDir(p.StateDir())
	if err != nil {
		return p.explain(err)
	}
	for _, e := range entries {
		if e.Name() == stateFile || e.Name() == lockFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(p.StateDir(), e.Name())); err != nil {
			return p.explain(err)
		}
	}
	if err := os.Remove(p.statePath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p.explain(err)
	}
	if err := removeLockFile(p.lock); err != nil {
		return p.explain(err)
	}
	p.id, p.runDir, p.destroyed = "", "", true
	// A command that waited may already have made the directory its own: then
	// it is not empty, and no longer ours to remove.
	if err := os.Remove(p.StateDir()); err != nil && !errors.Is(err, fs.ErrNotExist) && !notEmpty(p.StateDir()) {
		return p.explain(err)
	}
	return nil
}

func notEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}

func (p *Project) locked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lock != nil
}

func (p *Project) statePath() string { return filepath.Join(p.StateDir(), stateFile) }

// explain adds to a failed change of the state directory what the user can do
// about it.
func (p *Project) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case isDiskFull(err):
		return hint.Wrap(err, "the file system of %s is full: free some space and repeat the command", p.StateDir())
	case isReadOnly(err):
		return hint.Wrap(err, "hostctl keeps the machines of a project in %s, on a read-only file system: copy the machine file to a place that can be written", p.StateDir())
	case errors.Is(err, fs.ErrPermission):
		return hint.Wrap(err, "hostctl keeps the machines of a project in %s: make it writable for you, or copy the machine file to a directory of your own", p.StateDir())
	}
	return err
}
