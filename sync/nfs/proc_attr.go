//go:build linux || darwin

package nfs

import (
	"time"

	"golang.org/x/sys/unix"
)

func (r *request) getattr() {
	t, err := r.handle()
	if r.args.bad {
		return
	}
	var a attr
	if err == nil {
		a, err = t.look()
	}
	if r.status(err) {
		r.attributes(t.v, &a)
	}
}

// look returns the attributes of a file.
func (t target) look() (attr, error) {
	w, a, err := t.v.reach(t.n)
	if err != nil {
		return attr{}, err
	}
	w.release()
	return a, nil
}

// glance is look for what follows a reply: nil when it cannot be told.
func (t target) glance() *attr {
	if t.n == nil {
		return nil
	}
	a, err := t.look()
	if err != nil {
		return nil
	}
	return &a
}

func (r *request) setattr() {
	t, err := r.handle()
	s := r.settings()
	guarded := r.args.bool()
	var guard stamp
	if guarded {
		guard = stamp{int64(r.args.u32()), r.args.u32()}
	}
	if r.args.bad {
		return
	}
	var before, after *attr
	if err == nil {
		before, after, err = t.set(&r.cred, &s, guarded, guard)
	}
	if after == nil {
		after = t.glance()
	}
	r.status(err)
	r.change(t.v, before, after)
}

// set returns what the file was and, when all went well, what it is.
func (t target) set(c *cred, s *settings, guarded bool, guard stamp) (before, after *attr, err error) {
	defer t.v.lockContent(t.n).Unlock()
	w, a, err := t.v.reach(t.n)
	if err != nil {
		return nil, nil, err
	}
	defer w.release()
	if guarded && (seconds(a.ctime.sec) != uint32(guard.sec) || a.ctime.nsec != guard.nsec) {
		return &a, nil, errNotSync
	}
	if t.v.readOnly {
		return &a, nil, errROFS
	}
	now, err := t.apply(w, &a, c, s)
	if err != nil {
		return &a, nil, err
	}
	return &a, &now, nil
}

// apply changes what the caller may change of a file that has the state a, and
// returns its state then. Nothing is changed when any of it may not.
func (t target) apply(w at, a *attr, c *cred, s *settings) (now attr, err error) {
	want, changes, err := ownerAfter(a, c, s)
	if err != nil {
		return now, err
	}
	if err := maySetTimes(a, c, s); err != nil {
		return now, err
	}
	now = *a
	fresh := true
	if s.size != nil {
		if err := t.truncate(w, a, c, *s.size); err != nil {
			return now, err
		}
		fresh = false
		if !changes && want.dropPrivileges(c, a) {
			changes = true
		}
	}
	if changes {
		if now, err = t.v.keep(w.fd, w.name, a, want); err != nil {
			return now, err
		}
		fresh = true
	}
	if s.setsTimes() {
		if err := s.setTimes(w); err != nil {
			return now, err
		}
		fresh = false
	}
	if fresh {
		return now, nil
	}
	return t.v.attrAfter(&now, w.fd, w.name)
}

func (s *settings) setTimes(w at) error {
	now := time.Now()
	at := func(t setTime) stamp {
		switch t.how {
		case serverTime:
			return stamp{now.Unix(), uint32(now.Nanosecond())}
		case clientTime:
			return t.to
		}
		return omit
	}
	return utimesAt(w.fd, w.name, at(s.atime), at(s.mtime))
}

// ownerAfter returns what owner and mode become. The rules are those of
// chmod(2) and chown(2) on Linux.
func ownerAfter(a *attr, c *cred, s *settings) (want owner, changes bool, err error) {
	want = owner{mode: a.mode, uid: a.uid, gid: a.gid, major: a.major, minor: a.minor}
	if !s.setsOwner() {
		return want, false, nil
	}
	if s.uid != nil && !c.root() && (c.uid != a.uid || *s.uid != a.uid) {
		return want, false, errPerm
	}
	if s.gid != nil && !c.root() && (c.uid != a.uid || *s.gid != a.gid && !c.in(*s.gid)) {
		return want, false, errPerm
	}
	if s.mode != nil && !c.owns(a) {
		return want, false, errPerm
	}
	if s.uid != nil {
		want.uid = *s.uid
	}
	if s.gid != nil {
		want.gid = *s.gid
	}
	if s.mode != nil {
		want.mode = a.mode&unix.S_IFMT | *s.mode&allSet
		if !c.root() && !c.in(want.gid) {
			want.mode &^= setgid
		}
	} else if !a.isDir() {
		// A new owner gets no privileges with the file.
		want.mode &^= setuid
		if want.mode&0o010 != 0 || !c.root() && !c.in(want.gid) {
			want.mode &^= setgid
		}
	}
	return want, true, nil
}

// dropPrivileges takes the bits that a change of contents by the caller takes,
// and tells whether there were any.
func (o *owner) dropPrivileges(c *cred, a *attr) bool {
	if c.root() || a.isDir() {
		return false
	}
	before := o.mode
	o.mode &^= setuid
	if o.mode&0o010 != 0 || !c.in(a.gid) {
		o.mode &^= setgid
	}
	return o.mode != before
}

// maySetTimes has the rules of utimensat(2).
func maySetTimes(a *attr, c *cred, s *settings) error {
	if !s.setsTimes() || c.owns(a) {
		return nil
	}
	if s.atime.how == clientTime || s.mtime.how == clientTime {
		return errPerm
	}
	if s.size == nil && !c.may(a, 2) {
		return errAcces
	}
	return nil
}

func (t target) truncate(w at, a *attr, c *cred, size uint64) error {
	switch {
	case a.isDir():
		return errIsDir
	case a.kind() != unix.S_IFREG:
		return errInval
	case !c.owns(a) && !c.may(a, 2):
		// The owner may have had it open before he took the right from himself.
		return errAcces
	case size > maxFileSize:
		return errFBig
	}
	f, err := t.v.openFile(t.n, w, true)
	if err != nil {
		return err
	}
	defer f.release()
	return retry(func() error { return unix.Ftruncate(f.fd, int64(size)) })
}

const maxFileSize = 1<<63 - 1

// openFile returns a descriptor of a regular file, which n is, at w.
func (v *volume) openFile(n *node, w at, write bool) (*file, error) {
	if f := v.files.get(n, write); f != nil {
		return f, nil
	}
	fd, err := openFile(w.fd, w.name, write)
	if err != nil {
		return nil, stale(err)
	}
	if s, err := statFD(fd); err != nil || !v.is(n, s) {
		closeFD(fd)
		return nil, errStale
	}
	return v.files.put(n, fd, write), nil
}

// The bits of ACCESS; RFC 1813, section 3.3.4.
const (
	accessRead    = 1
	accessLookup  = 2
	accessModify  = 4
	accessExtend  = 8
	accessDelete  = 16
	accessExecute = 32
)

func (r *request) access() {
	t, err := r.handle()
	asked := r.args.u32()
	if r.args.bad {
		return
	}
	var a attr
	if err == nil {
		a, err = t.look()
	}
	if !r.status(err) {
		r.after(t.v, nil)
		return
	}
	var granted uint32
	if r.cred.may(&a, 4) {
		granted |= accessRead
	}
	if r.cred.may(&a, 2) && !t.v.readOnly {
		granted |= accessModify | accessExtend
		if a.isDir() {
			granted |= accessDelete
		}
	}
	if r.cred.may(&a, 1) {
		if a.isDir() {
			granted |= accessLookup
		} else {
			granted |= accessExecute
		}
	}
	r.after(t.v, &a)
	r.w.u32(granted & asked)
}

func (r *request) readlink() {
	t, err := r.handle()
	if r.args.bad {
		return
	}
	var a *attr
	var link []byte
	if err == nil {
		a, link, err = t.readlink()
	}
	good := r.status(err)
	r.after(t.v, a)
	if good {
		r.w.opaque(link)
	}
}

func (t target) readlink() (*attr, []byte, error) {
	w, a, err := t.v.reach(t.n)
	if err != nil {
		return nil, nil, err
	}
	defer w.release()
	if a.kind() != unix.S_IFLNK {
		return &a, nil, errInval
	}
	link, err := readLink(w.fd, w.name, make([]byte, 4096))
	return &a, link, err
}
