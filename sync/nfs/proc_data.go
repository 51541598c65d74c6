//go:build linux || darwin

package nfs

import (
	"golang.org/x/sys/unix"
)

// data returns an open regular file that the caller may read or write, with
// its attributes.
//
// Guests check when a program opens a file; a program that has it open may go
// on whatever its mode becomes. So the owner always may, and who can execute a
// file can read it, as in other servers.
func (t target) data(c *cred, write bool) (*file, attr, error) {
	if f := t.openTrusted(write); f != nil {
		a, err := t.v.attrFD(f.fd)
		if err == nil && a.nlink > 0 && t.v.is(t.n, a.stat) {
			if err = mayUse(&a, c, write); err == nil {
				return f, a, nil
			}
		}
		f.release()
		if err != nil {
			return nil, a, err
		}
	}
	w, a, err := t.v.reach(t.n)
	if err != nil {
		return nil, attr{}, err
	}
	defer w.release()
	if err := mayUse(&a, c, write); err != nil {
		return nil, a, err
	}
	f, err := t.v.openFile(t.n, w, write)
	return f, a, err
}

func (t target) openTrusted(write bool) *file {
	if t.n.dir {
		return nil
	}
	f := t.v.openTrusted(t.n)
	if f != nil && write && !f.writable {
		f.release()
		return nil
	}
	return f
}

func mayUse(a *attr, c *cred, write bool) error {
	switch {
	case a.isDir():
		return errIsDir
	case a.kind() != unix.S_IFREG:
		return errInval
	case c.owns(a):
		return nil
	case write && c.may(a, 2), !write && (c.may(a, 4) || c.may(a, 1)):
		return nil
	}
	return errAcces
}

func (r *request) read() {
	t, err := r.handle()
	offset, count := r.args.u64(), r.args.u32()
	if r.args.bad {
		return
	}
	var f *file
	var a attr
	if err == nil {
		f, a, err = t.data(&r.cred, false)
	}
	if err != nil {
		r.status(err)
		r.after(t.v, t.glance())
		return
	}
	defer f.release()
	count = min(count, maxData)
	if offset >= a.size {
		count = 0
	} else {
		count = uint32(min(uint64(count), a.size-offset))
	}
	r.room(int(count) + 256)
	header := len(r.w.b)
	r.status(nil)
	r.after(t.v, &a)
	r.w.u32(0) // count
	r.w.bool(false)
	r.w.u32(0) // length of the data
	start := len(r.w.b)
	b := r.w.b[start : start+int(count)]
	n, err := readAt(f.fd, b, offset)
	if err != nil {
		r.w.b = r.w.b[:header]
		r.status(err)
		r.after(t.v, &a)
		return
	}
	r.w.b = r.w.b[:start+n]
	r.w.pad(n)
	r.w.setU32(start-12, uint32(n))
	if offset+uint64(n) >= a.size || n < len(b) {
		r.w.setU32(start-8, 1)
	}
	r.w.setU32(start-4, uint32(n))
}

// room makes the reply's buffer one that takes n more bytes.
func (r *request) room(n int) {
	if cap(r.w.b)-len(r.w.b) >= n {
		return
	}
	b := r.s.memory.get(maxRecord, r.conn.large)
	b.b = append(b.b, r.w.b...)
	r.s.memory.put(r.out, r.conn.large)
	r.out, r.w.b = b, b.b
}

func readAt(fd int, b []byte, offset uint64) (int, error) {
	sum := 0
	for sum < len(b) {
		var n int
		err := retry(func() (err error) { n, err = unix.Pread(fd, b[sum:], int64(offset)+int64(sum)); return })
		if err != nil {
			if sum > 0 {
				return sum, nil
			}
			return 0, err
		}
		if n == 0 {
			break
		}
		sum += n
	}
	return sum, nil
}

// stable_how; RFC 1813, section 3.3.7.
const (
	unstable = 0
	dataOnly = 1
	fileSync = 2
)

func (r *request) write() {
	t, err := r.handle()
	offset, count, how := r.args.u64(), r.args.u32(), r.args.u32()
	b := r.args.opaque(maxData)
	if r.args.bad || how > fileSync {
		r.args.bad = true
		return
	}
	if uint64(count) < uint64(len(b)) {
		b = b[:count]
	}
	var before, after *attr
	var n int
	verifier := r.s.writes.Load()
	if err == nil {
		n, before, after, err = r.put(t, b, offset, how)
	}
	if err != nil && after == nil {
		after = t.glance()
	}
	good := r.status(err)
	r.change(t.v, before, after)
	if good {
		r.w.u32(uint32(n))
		r.w.u32(how)
		r.w.u64(verifier)
	}
}

func (r *request) put(t target, b []byte, offset uint64, how uint32) (n int, before, after *attr, err error) {
	f, before, after, n, err := t.write(&r.cred, b, offset)
	if err != nil {
		return 0, before, after, err
	}
	defer f.release()
	switch how {
	case dataOnly:
		err = r.s.synced(dataSync(f.fd))
	case fileSync:
		err = r.s.synced(fullSync(f.fd))
	}
	return n, before, after, err
}

// synced has guests send anew what they wrote when it was lost on the way to
// the disk: the host's kernel reports that once, and forgets the data.
func (s *Server) synced(err error) error {
	if err != nil {
		s.newVerifier()
	}
	return err
}

// write returns the file for it to be synced.
func (t target) write(c *cred, b []byte, offset uint64) (f *file, before, after *attr, n int, err error) {
	defer t.v.lockContent(t.n).Unlock()
	if t.v.readOnly {
		return nil, nil, nil, 0, errROFS
	}
	f, a, err := t.data(c, true)
	if err != nil {
		return nil, nil, nil, 0, err
	}
	defer func() {
		if err != nil {
			f.release()
		}
	}()
	before = &a
	if offset > maxFileSize-uint64(len(b)) {
		return f, before, nil, 0, errFBig
	}
	if a.mode&(setuid|setgid) != 0 {
		want := owner{mode: a.mode, uid: a.uid, gid: a.gid}
		if want.dropPrivileges(c, &a) {
			if err := t.keep(want); err != nil {
				return f, before, nil, 0, err
			}
		}
	}
	if n, err = writeAt(f.fd, b, offset); err != nil {
		return f, before, nil, n, err
	}
	s, err := statFD(f.fd)
	if err != nil {
		return f, before, nil, n, err
	}
	now, good := t.v.carry(&a, s)
	if !good {
		if now, err = t.v.attrFD(f.fd); err != nil {
			return f, before, nil, n, err
		}
	}
	return f, before, &now, n, nil
}

// keep sets owner and mode of a file that is open.
func (t target) keep(want owner) error {
	w, a, err := t.v.reach(t.n)
	if err != nil {
		return err
	}
	defer w.release()
	_, err = t.v.keep(w.fd, w.name, &a, want)
	return err
}

// writeAt writes all of b, or as much as there is room for.
func writeAt(fd int, b []byte, offset uint64) (int, error) {
	sum := 0
	for sum < len(b) {
		var n int
		err := retry(func() (err error) { n, err = unix.Pwrite(fd, b[sum:], int64(offset)+int64(sum)); return })
		if err != nil {
			if sum > 0 {
				return sum, nil
			}
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (r *request) commit() {
	t, err := r.handle()
	r.args.u64() // offset and count: the whole file is written
	r.args.u32()
	if r.args.bad {
		return
	}
	verifier := r.s.writes.Load()
	var before *attr
	if err == nil {
		before, err = r.flush(t)
	}
	good := r.status(err)
	r.change(t.v, before, t.glance())
	if good {
		r.w.u64(verifier)
	}
}

func (r *request) flush(t target) (*attr, error) {
	if t.n.dir {
		return nil, nil // names are the host's as soon as they are changed
	}
	w, a, err := t.v.reach(t.n)
	if err != nil {
		return nil, err
	}
	defer w.release()
	if a.kind() != unix.S_IFREG {
		return &a, nil
	}
	// Any descriptor will do, as a file's data are the same for all.
	f, err := t.v.openFile(t.n, w, false)
	if err != nil {
		return &a, err
	}
	defer f.release()
	return &a, r.s.synced(fullSync(f.fd))
}
