//go:build linux || darwin

package nfs

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

func (r *request) lookup() {
	t, err := r.handle()
	name := r.name()
	if r.args.bad {
		return
	}
	var found target
	var a attr
	var dir *attr
	if err == nil {
		found, a, dir, err = t.lookup(&r.cred, name)
	}
	if r.status(err) {
		r.handleOf(found.v, found.n)
		r.after(found.v, &a)
	}
	r.after(t.v, dir)
}

func (t target) lookup(c *cred, name string) (found target, a attr, dir *attr, err error) {
	w, d, err := t.enter(c, 1)
	if err != nil {
		return target{}, attr{}, nil, err
	}
	defer w.release()
	switch name {
	case ".":
		return t, d, &d, nil
	case "..":
		parent, _, _ := t.v.whereabouts(t.n)
		if parent == nil {
			return t, d, &d, nil // nothing is above the share
		}
		found = target{t.v, parent}
		a, err = found.look()
		return found, a, &d, err
	}
	if err := checkName(name); err != nil {
		return target{}, attr{}, &d, err
	}
	a, err = t.v.attrAt(w.fd, name)
	if err != nil {
		return target{}, attr{}, &d, err
	}
	return target{t.v, t.v.child(t.n, name, a.plainStat())}, a, &d, nil
}

// enter opens a directory in which the caller may do all of want.
func (t target) enter(c *cred, want uint32) (at, attr, error) {
	if !t.n.dir {
		return at{}, attr{}, errNotDir
	}
	w, a, err := t.v.reach(t.n)
	if err != nil {
		return at{}, attr{}, err
	}
	if !c.may(&a, want) {
		w.release()
		return at{}, attr{}, errAcces
	}
	return w, a, nil
}

// naming is a change of a name in a directory. Between begin and end nobody
// else changes names in the export.
type naming struct {
	target
	w      at
	before *attr // of the directory
}

// begin returns what can be ended also when there is an error. exists is what
// names give that every directory has.
func (t target) begin(c *cred, name string, dots error) (naming, error) {
	m := naming{target: t}
	if t.v == nil {
		return m, errStale
	}
	if !t.n.dir {
		return m, errNotDir
	}
	w, a, err := t.v.reach(t.n)
	if err != nil {
		return m, err
	}
	m.w, m.before = w, &a
	if name == "." || name == ".." {
		return m, dots
	}
	if err := checkName(name); err != nil {
		return m, err
	}
	if !c.may(&a, 1) {
		return m, errAcces
	}
	return m, nil
}

// mayChange is asked when it is known that there is something to change: that
// a name exists, or does not, comes first.
func (m *naming) mayChange(c *cred) error {
	switch {
	case m.v.readOnly:
		return errROFS
	case !c.may(m.before, 2):
		return errAcces
	}
	return nil
}

// after is the directory's state after the change; nil when it cannot be told.
func (m *naming) after() *attr {
	if m.before == nil {
		return m.glance()
	}
	a, err := m.v.attrAfter(m.before, m.w.fd, m.w.name)
	if err != nil || a.nlink == 0 {
		return m.glance()
	}
	return &a
}

func (m *naming) end() {
	if m.w.file != nil {
		m.w.release()
	}
}

// made writes the reply of what makes a file.
func (r *request) made(t target, m *naming, n *node, a *attr, err error) {
	if r.status(err) {
		r.w.bool(true)
		r.handleOf(t.v, n)
		r.after(t.v, a)
	}
	r.change(t.v, m.before, m.after())
}

// createHow; RFC 1813, section 3.3.8.
const (
	unchecked = 0
	guarded   = 1
	exclusive = 2
)

func (r *request) create() {
	t, err := r.handle()
	name := r.name()
	how := r.args.u32()
	var s settings
	var verifier []byte
	switch how {
	case unchecked, guarded:
		s = r.settings()
	case exclusive:
		verifier = r.args.take(8)
	default:
		r.args.bad = true
	}
	if r.args.bad {
		return
	}
	var m naming
	var n *node
	var a attr
	if err == nil {
		t.v.naming.Lock()
		defer t.v.naming.Unlock()
		if m, err = t.begin(&r.cred, name, errExist); err == nil {
			n, a, err = m.create(&r.cred, name, how, &s, verifier)
		}
		defer m.end()
	}
	r.made(t, &m, n, &a, err)
}

func (m *naming) create(c *cred, name string, how uint32, s *settings, verifier []byte) (*node, attr, error) {
	mode := uint32(0o600)
	if s.mode != nil {
		mode = *s.mode & allSet
	}
	fd := -1
	n, a, err := m.make(c, name, unix.S_IFREG|mode, s, func(host uint32) (err error) {
		fd, err = openAt(m.w.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, host)
		return err
	})
	if err != nil {
		if fd >= 0 {
			closeFD(fd)
			return nil, attr{}, err
		}
		// What is there comes before what the caller may not.
		switch a, there := m.v.attrAt(m.w.fd, name); {
		case there == nil:
			return m.createOver(c, name, how, s, verifier, &a)
		case !errors.Is(there, unix.ENOENT):
			return nil, attr{}, there
		}
		return nil, attr{}, err
	}
	m.v.files.put(n, fd, true).release() // a WRITE will follow
	f := target{m.v, n}
	if how == exclusive {
		if err = utimesAt(m.w.fd, name, verifierTime(verifier), verifierTime(verifier[4:])); err == nil {
			a, err = m.v.attrAfter(&a, m.w.fd, name)
		}
	} else {
		left := settings{size: s.size, atime: s.atime, mtime: s.mtime}
		if left.size != nil && *left.size == 0 {
			left.size = nil
		}
		if left.size != nil || left.setsTimes() {
			a, err = f.apply(at{m.w.file, name}, &a, c, &left)
		}
	}
	return n, a, err
}

// verifierTime has half of an exclusive CREATE's verifier stand in a time of
// the file, so that asking again finds it, also after the server was started
// anew. The guest sets the times afterwards.
func verifierTime(b []byte) stamp {
	return stamp{sec: int64(binary.BigEndian.Uint32(b) & 0x7fffffff)}
}

// createOver is create where there is something by the name.
func (m *naming) createOver(c *cred, name string, how uint32, s *settings, verifier []byte, a *attr) (*node, attr, error) {
	switch how {
	case guarded:
		return nil, attr{}, errExist
	case exclusive:
		if a.kind() != unix.S_IFREG || a.atime != verifierTime(verifier) || a.mtime != verifierTime(verifier[4:]) {
			return nil, attr{}, errExist
		}
	case unchecked:
		if a.kind() != unix.S_IFREG {
			return nil, attr{}, errExist
		}
		if s.size != nil {
			f := target{m.v, m.v.child(m.n, name, a.plainStat())}
			if _, _, err := f.set(c, &settings{size: s.size}, false, stamp{}); err != nil {
				return nil, attr{}, err
			}
			now, err := m.v.attrAt(m.w.fd, name)
			if err != nil {
				return nil, attr{}, err
			}
			*a = now
		}
	}
	return m.v.child(m.n, name, a.plainStat()), *a, nil
}

// make has do make a file, with a mode for the host, and gives it the owner and
// the mode that it has in the guest. What has them half is removed again.
func (m *naming) make(c *cred, name string, mode uint32, s *settings, do func(host uint32) error) (*node, attr, error) {
	if err := m.mayChange(c); err != nil {
		return nil, attr{}, err
	}
	want := owner{mode: mode, uid: c.uid, gid: c.gid, major: s.major, minor: s.minor}
	if m.before.mode&setgid != 0 {
		want.gid = m.before.gid
		if mode&unix.S_IFMT == unix.S_IFDIR {
			want.mode |= setgid
		}
	}
	if c.root() {
		if s.uid != nil {
			want.uid = *s.uid
		}
		if s.gid != nil {
			want.gid = *s.gid
		}
	} else if mode&unix.S_IFMT != unix.S_IFDIR && !c.in(want.gid) {
		want.mode &^= setgid
	}
	if err := do(hostMode(want.mode)); err != nil {
		return nil, attr{}, err
	}
	a, err := m.settle(name, want)
	if err != nil {
		flags := 0
		if mode&unix.S_IFMT == unix.S_IFDIR {
			flags = unix.AT_REMOVEDIR
		}
		return nil, attr{}, errors.Join(err, unix.Unlinkat(m.w.fd, name, flags))
	}
	return m.v.childWith(m.n, name, &a), a, nil
}

// settle gives a new file its owner and mode. Nothing stands beside it yet.
func (m *naming) settle(name string, want owner) (attr, error) {
	s, err := statAt(m.w.fd, name)
	if err != nil {
		return attr{}, err
	}
	a := m.v.recalled(s, &remembered{at: s.ctime, until: time.Now().Add(settled)})
	if a.uid == want.uid && a.gid == want.gid && (a.mode == want.mode || a.kind() == unix.S_IFLNK) {
		return a, nil
	}
	return m.v.keep(m.w.fd, name, &a, want)
}

// fresh makes sure that there is nothing by the name.
func (m *naming) fresh(name string) error {
	_, err := statAt(m.w.fd, name)
	switch {
	case err == nil:
		return errExist
	case errors.Is(err, unix.ENOENT):
		return nil
	}
	return err
}

func (r *request) mkdir() {
	t, err := r.handle()
	name := r.name()
	s := r.settings()
	mode := uint32(0o755)
	if s.mode != nil {
		mode = *s.mode & allSet
	}
	r.makeNew(t, err, name, unix.S_IFDIR|mode, &s, func(m *naming, host uint32) error {
		return unix.Mkdirat(m.w.fd, name, host)
	})
}

// makeNew does what MKDIR, SYMLINK and MKNOD have in common.
func (r *request) makeNew(t target, err error, name string, mode uint32, s *settings, do func(m *naming, host uint32) error) {
	if r.args.bad {
		return
	}
	var m naming
	var n *node
	var a attr
	if err == nil {
		t.v.naming.Lock()
		defer t.v.naming.Unlock()
		if m, err = t.begin(&r.cred, name, errExist); err == nil {
			err = m.fresh(name)
		}
		defer m.end()
		if err == nil {
			n, a, err = m.make(&r.cred, name, mode, s, func(host uint32) error { return do(&m, host) })
		}
	}
	r.made(t, &m, n, &a, err)
}

func (r *request) symlink() {
	t, err := r.handle()
	name := r.name()
	s := r.settings()
	link := string(r.args.opaque(maxData))
	if err == nil && len(link) >= 4096 {
		err = errNameTooLong
	}
	if err == nil && link == "" {
		err = errInval
	}
	r.makeNew(t, err, name, unix.S_IFLNK|0o777, &s, func(m *naming, _ uint32) error {
		return unix.Symlinkat(link, m.w.fd, name)
	})
}

// mknod makes devices, fifos and sockets as empty regular files that stand for
// them: the guest's kernel does what they are for.
func (r *request) mknod() {
	t, err := r.handle()
	name := r.name()
	kind := r.args.u32()
	var s settings
	var mode uint32
	switch kind {
	case fileType(unix.S_IFBLK), fileType(unix.S_IFCHR):
		mode = unix.S_IFCHR
		if kind == fileType(unix.S_IFBLK) {
			mode = unix.S_IFBLK
		}
		s = r.settings()
		s.major, s.minor = r.args.u32(), r.args.u32()
		if err == nil && !r.cred.root() {
			err = errPerm
		}
	case fileType(unix.S_IFIFO):
		mode = unix.S_IFIFO
		s = r.settings()
	case fileType(unix.S_IFSOCK):
		mode = unix.S_IFSOCK
		s = r.settings()
	default:
		if err == nil {
			err = errBadType
		}
	}
	perm := uint32(0o600)
	if s.mode != nil {
		perm = *s.mode & allSet
	}
	r.makeNew(t, err, name, mode|perm, &s, func(m *naming, host uint32) error {
		fd, err := openAt(m.w.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, host)
		if err != nil {
			return err
		}
		closeFD(fd)
		return nil
	})
}

func (r *request) remove(dir bool) {
	t, err := r.handle()
	name := r.name()
	if r.args.bad {
		return
	}
	var m naming
	if err == nil {
		t.v.naming.Lock()
		defer t.v.naming.Unlock()
		dots := error(errInval)
		if dir && name == ".." {
			dots = errNotEmpty
		}
		if m, err = t.begin(&r.cred, name, dots); err == nil {
			err = m.remove(&r.cred, name, dir)
			r.noteName(&m, name, true, err)
		}
		defer m.end()
	}
	r.status(err)
	r.change(t.v, m.before, m.after())
}

func (m *naming) remove(c *cred, name string, dir bool) error {
	a, err := m.victim(name)
	if err != nil {
		return err
	}
	if err := m.mayRemove(c, &a); err != nil {
		return err
	}
	if dir != a.isDir() {
		if dir {
			return errNotDir
		}
		return errIsDir
	}
	flags := 0
	if dir {
		flags = unix.AT_REMOVEDIR
	}
	if err := unix.Unlinkat(m.w.fd, name, flags); err != nil {
		return err
	}
	m.lost(name, &a)
	return nil
}

// victim is what is to lose its name. Whose it is, is only told where it
// matters.
func (m *naming) victim(name string) (attr, error) {
	if m.before.mode&sticky != 0 {
		return m.v.attrAt(m.w.fd, name)
	}
	s, err := statAt(m.w.fd, name)
	return m.v.merge(s, owner{}, false), err
}

// mayRemove tells whether the caller may take a file's name from a directory:
// a sticky one leaves it to the owner of either.
func (m *naming) mayRemove(c *cred, a *attr) error {
	if err := m.mayChange(c); err != nil {
		return err
	}
	if m.before.mode&sticky != 0 && !c.owns(m.before) && !c.owns(a) {
		return errPerm
	}
	return nil
}

// lost notes that a file has lost its name.
func (m *naming) lost(name string, a *attr) {
	last := a.isDir() || a.nlink <= 1
	m.v.removed(m.v.lookNode(a.plainStat()), place{m.n, name}, last)
	if last {
		// At worst a record stays that nobody asks for.
		_ = m.v.side.remove(a.plainStat())
	}
}

func (r *request) rename() {
	from, err := r.handle()
	oldName := r.name()
	to, toErr := r.handle()
	newName := r.name()
	if r.args.bad {
		return
	}
	if err == nil {
		err = toErr
	}
	if err == nil && from.v != to.v {
		err = errXDev
	}
	var f, d naming
	if err == nil {
		from.v.naming.Lock()
		defer from.v.naming.Unlock()
		if f, err = from.begin(&r.cred, oldName, errInval); err == nil {
			if d, err = to.begin(&r.cred, newName, errInval); err == nil {
				err = rename(&r.cred, &f, oldName, &d, newName)
				r.noteRenamed(&f, oldName, &d, newName, err)
			}
			defer d.end()
		}
		defer f.end()
	}
	r.status(err)
	r.change(from.v, f.before, f.after())
	r.change(to.v, d.before, d.after())
}

func rename(c *cred, f *naming, oldName string, d *naming, newName string) error {
	v := f.v
	a, err := v.attrAt(f.w.fd, oldName)
	if err != nil {
		return err
	}
	over, err := d.victim(newName)
	exists := err == nil
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if exists && over.ino == a.ino && over.dev == a.dev {
		return nil // two names of one file: both stay
	}
	if err := f.mayRemove(c, &a); err != nil {
		return err
	}
	if exists {
		err = d.mayRemove(c, &over)
	} else {
		err = d.mayChange(c)
	}
	if err != nil {
		return err
	}
	if a.isDir() && f.n != d.n && !c.may(&a, 2) {
		return errAcces // its ".." changes
	}
	if exists && a.isDir() != over.isDir() {
		if over.isDir() {
			return errIsDir
		}
		return errNotDir
	}
	n := v.child(f.n, oldName, a.plainStat())
	if err := unix.Renameat(f.w.fd, oldName, d.w.fd, newName); err != nil {
		return err
	}
	if exists {
		d.lost(newName, &over)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if n.dir || a.nlink == 1 {
		v.moveTo(n, place{d.n, newName}, true)
	} else {
		v.moveTo(n, place{d.n, newName}, false)
		v.leave(n, place{f.n, oldName})
	}
	return nil
}

func (r *request) link() {
	t, err := r.handle()
	to, toErr := r.handle()
	name := r.name()
	if r.args.bad {
		return
	}
	if err == nil {
		err = toErr
	}
	if err == nil && t.v != to.v {
		err = errXDev
	}
	var m naming
	if err == nil {
		t.v.naming.Lock()
		defer t.v.naming.Unlock()
		if m, err = to.begin(&r.cred, name, errExist); err == nil {
			err = m.link(&r.cred, t, name)
		}
		defer m.end()
	}
	r.status(err)
	r.after(t.v, t.glance())
	r.change(to.v, m.before, m.after())
}

func (m *naming) link(c *cred, t target, name string) error {
	w, a, err := t.v.reach(t.n)
	if err != nil {
		return err
	}
	defer w.release()
	if err := m.fresh(name); err != nil {
		return err
	}
	if a.isDir() {
		return errPerm
	}
	if err := m.mayChange(c); err != nil {
		return err
	}
	if err := unix.Linkat(w.fd, w.name, m.w.fd, name, 0); err != nil {
		return err
	}
	// The host may have put another file there at this moment.
	s, err := statAt(m.w.fd, name)
	if err != nil {
		return err
	}
	if !t.v.is(t.n, s) {
		return errors.Join(errStale, unix.Unlinkat(m.w.fd, name, 0))
	}
	t.v.mu.Lock()
	defer t.v.mu.Unlock()
	t.v.moveTo(t.n, place{m.n, name}, false)
	return nil
}
