//go:build linux || darwin

package nfs

import (
	"hash/maphash"
	"time"

	"golang.org/x/sys/unix"
)

// ghostExport makes the number of an export in handles that of its ghosts.
const ghostExport = 0x67_68_6f_73

// replay returns what the caller replays, nil if it is a caller as any.
func (r *request) replay() *Replay {
	if r.s.replays == nil {
		return nil
	}
	for _, g := range r.cred.groups[:r.cred.n] {
		if p := r.s.replays.of(g); p != nil {
			return p
		}
	}
	return nil
}

// sight is what a replay sees at a handle: a file or a ghost of one.
type sight struct {
	target
	id   uint64 // of a ghost, which has no node
	path string // with the export, "" if it is not known
	dir  bool
}

// see reads a handle.
func (r *request) see(p *Replay) (sight, error) {
	raw := r.args.opaque(64)
	h, err := r.s.seal.open(raw)
	if err != nil {
		return sight{}, err
	}
	v := r.s.volume(h.export ^ ghostExport)
	if v == nil || r.s.volume(h.export) != nil {
		t, err := r.resolve(raw)
		if err != nil {
			return sight{target: target{v: t.v}}, err
		}
		return sight{target: t, path: t.v.name + t.v.pathOf(t.n), dir: t.n.dir}, nil
	}
	g, ok := p.ghost(h.id)
	if !ok {
		return sight{}, errStale
	}
	return sight{target: target{v: v}, id: h.id, path: g.path, dir: g.dir}, nil
}

// pathOf returns where n was last, with a slash before each name.
func (v *volume) pathOf(n *node) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := ""
	for n.parent != nil {
		p = "/" + n.name + p
		n = n.parent
	}
	return p
}

// look returns the attributes.
func (s *sight) look() (attr, error) {
	if s.id == 0 {
		return s.target.look()
	}
	return ghostly(s.id, s.dir), nil
}

func (s *sight) glance() *attr {
	if s.v == nil {
		return nil
	}
	if s.id == 0 {
		return s.target.glance()
	}
	a := ghostly(s.id, s.dir)
	return &a
}

// ghostly are the attributes of a ghost.
func ghostly(id uint64, dir bool) attr {
	a := attr{id: id}
	a.mode, a.nlink = unix.S_IFREG|0o644, 1
	if dir {
		a.mode, a.nlink = unix.S_IFDIR|0o755, 2
	}
	return a
}

// replayed answers a caller that has nothing happen. It returns false for what
// changes nothing anyway.
func (r *request) replayed(p *Replay) bool {
	if p.guest.Load() == 0 {
		p.guest.Store(r.guest(&r.s.replays.origins))
	}
	switch r.proc {
	case procGetattr:
		s, err := r.see(p)
		var a attr
		if err == nil {
			a, err = s.look()
		}
		if r.status(err) {
			r.attributes(s.v, &a)
		}
	case procAccess:
		s, err := r.see(p)
		asked := r.args.u32()
		a := s.glance()
		if r.status(err); err != nil {
			r.after(s.v, nil)
			break
		}
		r.after(s.v, a)
		r.w.u32(asked)
	case procLookup:
		r.replayLookup(p)
	case procSetattr:
		s, err := r.see(p)
		a := s.glance()
		r.status(err)
		r.change(s.v, a, a)
	case procCreate, procMknod, procSymlink, procMkdir:
		r.replayMake(p)
	case procRemove, procRmdir:
		// The folder may be a stale one: it was removed as well.
		s, _ := r.see(p)
		name := r.name()
		a := s.glance()
		r.status(r.stays(p, s, name))
		r.change(s.v, a, a)
	case procRename:
		// A file that is open in the guest is renamed by it when it is removed.
		from, _ := r.see(p)
		name := r.name()
		to, _ := r.see(p)
		r.status(r.stays(p, from, name))
		for _, s := range [...]sight{from, to} {
			a := s.glance()
			r.change(s.v, a, a)
		}
	case procLink:
		s, _ := r.see(p)
		to, _ := r.see(p)
		r.status(errROFS)
		r.after(s.v, s.glance())
		r.change(to.v, nil, to.glance())
	case procWrite:
		s, _ := r.see(p)
		r.status(errROFS)
		r.change(s.v, nil, s.glance())
	default:
		return false
	}
	return true
}

func (r *request) replayLookup(p *Replay) {
	s, err := r.see(p)
	name := r.name()
	if r.args.bad {
		return
	}
	at := s.path + "/" + name
	if err == nil && s.dir && r.stays(p, s, name) == nil {
		if id, g, ok := p.haunts(at); ok {
			a := ghostly(id, g.dir)
			r.status(nil)
			r.ghostHandle(s.v, id)
			r.after(s.v, &a)
			r.after(s.v, s.glance())
			return
		}
	}
	var found target
	var a attr
	switch {
	case err != nil:
	case s.id != 0 || name != "." && name != ".." && p.hides(at):
		err = errNoEnt
	default:
		found, a, _, err = s.lookup(&r.cred, name)
	}
	if r.status(err) {
		r.handleOf(found.v, found.n)
		r.after(found.v, &a)
	}
	r.after(s.v, s.glance())
}

// stays returns errStale for a file that the caller is about to remove and that
// was made again meanwhile: nobody in the guest may find it gone. The guest's
// kernel looks once more then, and finds the file. Of a caller whose replay has ended
// nobody knows what it is about.
func (r *request) stays(p *Replay, in sight, name string) error {
	if p.ended {
		return errROFS
	}
	if in.n == nil || !p.removes(in.path+"/"+name) {
		return nil
	}
	if _, a, _, err := in.lookup(&r.cred, name); err == nil && !a.isDir() {
		return errStale
	}
	return nil
}

// ghostHandle writes the handle of a ghost.
func (r *request) ghostHandle(v *volume, id uint64) {
	r.w.u32(handleFixed + macSize)
	r.w.b = r.s.seal.append(r.w.b, v.export^ghostExport, id, 0, "")
}

// replayMake gives the caller, for what it wants to make, what is there.
func (r *request) replayMake(p *Replay) {
	s, err := r.see(p)
	name := r.name()
	var found target
	var a attr
	switch {
	case r.args.bad:
		return
	case err != nil:
	case s.id != 0:
		err = errNoEnt
	default:
		found, a, _, err = s.lookup(&r.cred, name)
	}
	if err == nil && (a.isDir() != (r.proc == procMkdir) || name == "." || name == "..") {
		err = errExist
	}
	dir := s.glance()
	if r.status(err) {
		p.made(s.path + "/" + name)
		r.w.bool(true)
		r.handleOf(found.v, found.n)
		r.after(found.v, &a)
	}
	r.change(s.v, dir, dir)
}

// guest returns a number for the guest by the name in its credential.
func (r *request) guest(o *origins) uint64 {
	return maphash.Bytes(o.seed, r.cred.machine) | 1
}

// begins notes that a call is under way that may change something, and returns
// what to call when it has ended.
func (r *request) begins() func() {
	if r.s.replays == nil || !r.s.replays.some.Load() || r.prog != progNFS || !r.changesNames() && r.proc != procWrite {
		return func() {}
	}
	o := &r.s.replays.origins
	r.origins = o
	o.under.Add(1)
	return func() { o.under.Add(-1) }
}

// noteState notes that the guest has brought a file to the state it is in.
func (r *request) noteState(v *volume, a *attr) {
	if r.origins != nil && r.good {
		r.origins.note(r.origins.state(v.name, a.ino, time.Unix(a.ctime.sec, int64(a.ctime.nsec))), r.guest(r.origins))
	}
}

// noteName notes that the guest has removed a name, or renamed something to it.
func (r *request) noteName(m *naming, name string, removed bool, err error) {
	if r.origins == nil || err != nil {
		return
	}
	p := m.v.pathOf(m.n) + "/" + name
	r.origins.note(r.origins.name(m.v.name, p[1:], removed), r.guest(r.origins))
}

// noteRenamed notes what a rename has done.
func (r *request) noteRenamed(from *naming, oldName string, to *naming, newName string, err error) {
	r.noteName(from, oldName, true, err)
	r.noteName(to, newName, false, err)
	if r.origins == nil || err != nil {
		return
	}
	if a, err := to.v.attrAt(to.w.fd, newName); err == nil {
		r.origins.note(r.origins.state(to.v.name, a.ino, time.Unix(a.ctime.sec, int64(a.ctime.nsec))), r.guest(r.origins))
	}
}
