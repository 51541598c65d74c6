//go:build linux || darwin

package nfs

import "golang.org/x/sys/unix"

// fileType is ftype3; RFC 1813, section 2.5.
func fileType(mode uint32) uint32 {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return 2
	case unix.S_IFBLK:
		return 3
	case unix.S_IFCHR:
		return 4
	case unix.S_IFLNK:
		return 5
	case unix.S_IFSOCK:
		return 6
	case unix.S_IFIFO:
		return 7
	}
	return 1
}

// attributes writes fattr3.
func (r *request) attributes(v *volume, a *attr) {
	w := &r.w
	w.u32(fileType(a.mode))
	w.u32(a.mode & allSet)
	w.u32(a.nlink)
	w.u32(a.uid)
	w.u32(a.gid)
	w.u64(a.size)
	w.u64(a.used)
	w.u32(a.major)
	w.u32(a.minor)
	w.u64(uint64(v.export)) // fsid
	w.u64(a.id)
	for _, t := range [...]stamp{a.atime, a.mtime, a.ctime} {
		w.u32(seconds(t.sec))
		w.u32(t.nsec)
	}
}

// seconds since 1970 are 32 bits without a sign in NFSv3.
func seconds(s int64) uint32 {
	return uint32(max(0, min(s, 1<<32-1)))
}

// after writes post_op_attr; a may be nil.
func (r *request) after(v *volume, a *attr) {
	r.w.bool(a != nil)
	if a != nil {
		r.noteState(v, a)
		r.attributes(v, a)
	}
}

// change writes wcc_data; both may be nil.
func (r *request) change(v *volume, before, after *attr) {
	r.w.bool(before != nil)
	if before != nil {
		r.w.u64(before.size)
		for _, t := range [...]stamp{before.mtime, before.ctime} {
			r.w.u32(seconds(t.sec))
			r.w.u32(t.nsec)
		}
	}
	r.after(v, after)
}

// handleOf writes nfs_fh3.
func (r *request) handleOf(v *volume, n *node) {
	v.mu.Lock()
	hints := n.hints
	v.mu.Unlock()
	r.w.u32(uint32(handleFixed + len(hints) + macSize))
	start := len(r.w.b)
	r.w.b = r.s.seal.append(r.w.b, v.export, n.id, n.gen, hints)
	r.w.pad(len(r.w.b) - start)
}

// settings is sattr3: nil or false is what stays as it is.
type settings struct {
	mode, uid, gid *uint32
	size           *uint64
	atime, mtime   setTime
	major, minor   uint32 // of a device that MKNOD makes
}

// setTime is set_atime and set_mtime.
type setTime struct {
	how uint32
	to  stamp
}

const (
	keepTime   = 0
	serverTime = 1
	clientTime = 2
)

func (s *settings) setsTimes() bool { return s.atime.how != keepTime || s.mtime.how != keepTime }

func (s *settings) setsOwner() bool { return s.mode != nil || s.uid != nil || s.gid != nil }

func (r *request) settings() (s settings) {
	optional := func() *uint32 {
		if !r.args.bool() {
			return nil
		}
		v := r.args.u32()
		return &v
	}
	s.mode, s.uid, s.gid = optional(), optional(), optional()
	if r.args.bool() {
		size := r.args.u64()
		s.size = &size
	}
	for _, t := range [...]*setTime{&s.atime, &s.mtime} {
		t.how = r.args.u32()
		if t.how == clientTime {
			t.to = stamp{int64(r.args.u32()), r.args.u32()}
			if t.to.nsec >= 1e9 {
				r.args.bad = true
			}
		} else if t.how > clientTime {
			r.args.bad = true
		}
	}
	return s
}
