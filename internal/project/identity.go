package project

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// CopyError says that a project directory was copied together with its state.
// Original holds the same identity and is where the machines belong.
type CopyError struct {
	Dir, Original string
}

func (e *CopyError) Error() string {
	return fmt.Sprintf("%q is a copy of the project in %q, and its machines belong there", e.Dir, e.Original)
}

// Hint says how to tell the two apart.
func (e *CopyError) Hint() string {
	return fmt.Sprintf("delete %q to give the copy machines of its own (the disks that were copied go with it)", filepath.Join(e.Dir, stateDir))
}

// settle makes sure, right after the lock was taken, that the project has an
// identity and that it is this directory's.
//
// Machines are found again by what carries the project's id: sockets in the
// run directory, domains of a hypervisor, the index. So one id must have one
// directory. But directories are moved and copied with everything in them,
// and the state file notes where it was last:
//
//   - It was here: nothing to do.
//   - It was elsewhere, and nothing with this id is there any more: the
//     project was moved. It keeps its id, and with it the running machines;
//     the note, the index and the folders of shares follow.
//   - It was elsewhere, and that directory still has this id: this is a copy
//     ([CopyError]). Its overlays were copied from disks that may have been
//     written to at the time, and any machine it would report as running is
//     the other's: a halt or destroy here would hit the original. So nothing
//     works in a copy, nothing is deleted, and the user decides.
//   - The same directory under two names (bind mounts) is one project.
//
// A directory that cannot be seen, for instance on a disk that is not mounted,
// counts as gone: when it comes back, both hold the id, the index names the
// one that took over, and the other one is refused as the copy.
func (p *Project) settle() error {
	s, old, err := p.load()
	if err != nil {
		return err
	}
	if s.ID == "" {
		s.ID = newID()
	}
	// A new state has no directory yet, and "" must not pass for the working
	// directory; nor must what somebody wrote there by hand.
	if !filepath.IsAbs(s.Dir) || p.moved(s) {
		s.Dir = p.dir
	}
	err = p.settleRunDir(s, old)
	if err == nil {
		if err = p.index.Add(s.ID, s.Dir); err != nil && old == nil {
			err = errors.Join(err, removeRunDir(s.RunDir))
		}
	}
	if err != nil {
		if old == nil {
			// The project is none yet: see withdraw.
			err = errors.Join(err, ignoreMissing(os.Remove(p.statePath())))
		}
		return err
	}
	p.id, p.runDir = s.ID, s.RunDir
	return nil
}

// original returns the other directory that s belongs to, or "".
func (p *Project) original(s *State) string {
	others := []string{s.Dir}
	if e, err := p.index.get(s.ID); err == nil {
		others = append(others, e.Dir)
	}
	for _, dir := range others {
		if !filepath.IsAbs(dir) || dir == p.dir || sameDir(dir, p.dir) {
			continue
		}
		if _, other, err := readState(dir); err == nil && other.ID == s.ID {
			return dir
		}
	}
	return ""
}

// moved reports whether s, which is no copy's, was written elsewhere.
func (p *Project) moved(s *State) bool {
	return filepath.IsAbs(s.Dir) && s.Dir != p.dir && !sameDir(s.Dir, p.dir)
}

// sameDir reports whether two paths lead to one state directory.
func sameDir(a, b string) bool {
	ia, errA := os.Stat(filepath.Join(a, stateDir))
	ib, errB := os.Stat(filepath.Join(b, stateDir))
	return errors.Join(errA, errB) == nil && os.SameFile(ia, ib)
}

func newID() string {
	b := make([]byte, 6)
	rand.Read(b) // never fails: crypto/rand, Go 1.24
	return hex.EncodeToString(b)
}
