//go:build linux || darwin

package nfs

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Mode bits, as in struct stat.
const (
	setuid = 0o4000
	setgid = 0o2000
	sticky = 0o1000
	allSet = 0o7777
)

// attr is a file as guests see it: the host's stat, with the owner, the mode
// and the kind that are kept beside the file.
type attr struct {
	stat
	id       uint64 // inode number, unique in the export
	uid, gid uint32
	kept     bool   // something stands beside the file
	real     uint32 // the host's mode, with the kind
	memo     *remembered
}

func (a *attr) kind() uint32 { return a.mode & unix.S_IFMT }

// owner is what is kept beside a file: in the attribute [xattr], or in the side
// store. The format is, big-endian: a byte 1, then 32 bits each of mode (with
// the kind, as in struct stat), mode on the host at that time, uid, gid, and
// the device's major and minor number.
//
// A file that the host's user chmods afterwards has the mode that he gave it.
type owner struct {
	mode, host, uid, gid, major, minor uint32
}

const ownerSize = 25

func (o *owner) append(b []byte) []byte {
	b = append(b, 1)
	for _, v := range [...]uint32{o.mode, o.host, o.uid, o.gid, o.major, o.minor} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// parseOwner returns false for what is not in the format: a later version's, or
// something that the host's user wrote.
func parseOwner(b []byte) (o owner, ok bool) {
	if len(b) != ownerSize || b[0] != 1 {
		return o, false
	}
	for i, p := range [...]*uint32{&o.mode, &o.host, &o.uid, &o.gid, &o.major, &o.minor} {
		*p = binary.BigEndian.Uint32(b[1+4*i:])
	}
	return o, true
}

// hostMode is the mode that a file of the guest has on the host: its owner
// there, who runs the server, keeps access.
func hostMode(mode uint32) uint32 {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return mode&0o777 | 0o700
	}
	return mode&0o777 | 0o600
}

// merge puts what the host says and what is kept together.
func (v *volume) merge(s stat, o owner, kept bool) attr {
	a := attr{stat: s, id: v.id(s.dev, s.ino), uid: v.uid, gid: v.gid, real: s.mode}
	if v.isRoot(s) {
		a.id = rootID
	}
	if !kept {
		return a
	}
	a.kept, a.uid, a.gid = true, o.uid, o.gid
	if o.mode&unix.S_IFMT != s.mode&unix.S_IFMT {
		// Only a regular file stands for something else.
		if s.mode&unix.S_IFMT != unix.S_IFREG || !isSpecial(o.mode) {
			return attr{stat: s, id: a.id, uid: v.uid, gid: v.gid, real: s.mode}
		}
		a.major, a.minor, a.size, a.used = o.major, o.minor, 0, 0
	}
	perm := o.mode & allSet
	if now := s.mode & allSet; now != o.host {
		perm = now
	}
	a.mode = o.mode&unix.S_IFMT | perm
	return a
}

// isSpecial tells whether mode is that of a device, a fifo or a socket, for
// which a regular file stands on the host.
func isSpecial(mode uint32) bool {
	switch mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		return true
	}
	return false
}

// canKeep tells whether a file of the host's mode on a device can have user
// extended attributes. On Linux symbolic links and special files cannot.
func (v *volume) canKeep(dev uint64, mode uint32) bool {
	k := mode & unix.S_IFMT
	return (k == unix.S_IFREG || k == unix.S_IFDIR) && v.bare.Load() != dev+1
}

// attrAt returns the file name in dir as guests see it.
func (v *volume) attrAt(dir int, name string) (attr, error) {
	s, err := statAt(dir, name)
	if err != nil {
		return attr{}, err
	}
	return v.withOwner(s, func(b []byte) (int, bool, error) { return getXattr(dir, name, b) })
}

func (v *volume) attrFD(fd int) (attr, error) {
	s, err := statFD(fd)
	if err != nil {
		return attr{}, err
	}
	return v.withOwner(s, func(b []byte) (int, bool, error) { return getXattrFD(fd, b) })
}

func (v *volume) withOwner(s stat, get func([]byte) (int, bool, error)) (attr, error) {
	if v.canKeep(s.dev, s.mode) {
		was, good := v.recall(s)
		if good {
			return v.recalled(s, was), nil
		}
		r := remembered{at: s.ctime, until: time.Now().Add(settled)}
		if v.isSettled(s) {
			r.until = time.Time{}
		}
		var b [64]byte
		n, found, err := get(b[:])
		switch {
		case err == nil && found:
			r.owner, r.kept = parseOwner(b[:n])
			return v.recalled(s, v.remember(s, &r, was)), nil
		case err == nil, errors.Is(err, unix.ERANGE):
			return v.recalled(s, v.remember(s, &r, was)), nil
		case errors.Is(err, unix.ENOTSUP):
			v.bare.Store(s.dev + 1)
		case !errors.Is(err, unix.EACCES):
			return attr{}, err
		}
	}
	o, kept := v.side.get(s)
	return v.merge(s, o, kept), nil
}

// recalled is merge with what is remembered.
func (v *volume) recalled(s stat, r *remembered) attr {
	a := v.merge(s, r.owner, r.kept)
	a.memo = r
	return a
}

// settled is how old a ctime must be for the next change to have another one:
// it counts in ticks of the host's kernel. What is remembered of a file that
// changed later counts for as long: within one tick nobody but this server
// changes what stands beside a file, and it notes its own changes.
const settled = 100 * time.Millisecond

func (v *volume) isSettled(s stat) bool {
	return time.Since(time.Unix(s.ctime.sec, int64(s.ctime.nsec))) >= settled
}

// ofStat returns the node for what the host says of a file. v.mu is held.
func (v *volume) ofStat(s stat) *node {
	if s.ino == v.rootIno && s.dev == v.rootDev {
		return v.root
	}
	id := s.ino
	if s.dev != v.rootDev {
		id = foreign(s.dev, s.ino)
	}
	if n := v.nodes[id]; n != nil && n.gen == generation(s) {
		return n
	}
	return nil
}

// recall returns what is remembered of a file, and whether that is what is
// kept beside it now: that nothing of the file changed, which would change its
// ctime.
func (v *volume) recall(s stat) (r *remembered, good bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.ofStat(s)
	if n == nil || n.kept == nil {
		return nil, false
	}
	r = n.kept
	return r, !r.changing && r.at == s.ctime && (r.until.IsZero() || time.Now().Before(r.until))
}

// remember notes what was read while was stood there, unless that was changed
// meanwhile. It returns r.
func (v *volume) remember(s stat, r, was *remembered) *remembered {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := v.ofStat(s); n != nil && n.kept == was && (was == nil || !was.changing) {
		n.kept = r
	}
	return r
}

// carry returns the state of a file that had the state a before a change that
// leaves alone what is kept beside it, and for which the host says s now. It
// returns false where somebody else may have changed that.
func (v *volume) carry(a *attr, s stat) (attr, bool) {
	if a.memo == nil || s.ino != a.ino || s.dev != a.dev {
		return attr{}, false
	}
	v.mu.Lock()
	n := v.ofStat(s)
	if n == nil || n.kept != a.memo {
		v.mu.Unlock()
		return attr{}, false
	}
	r := *a.memo
	r.at = s.ctime
	if r.until.IsZero() {
		r.until = time.Now().Add(settled)
	}
	n.kept = &r
	v.mu.Unlock()
	return v.recalled(s, &r), true
}

// attrAfter is attrAt for the file that had the state a before such a change.
func (v *volume) attrAfter(a *attr, dir int, name string) (attr, error) {
	s, err := statAt(dir, name)
	if err != nil {
		return attr{}, err
	}
	if now, good := v.carry(a, s); good {
		return now, nil
	}
	return v.withOwner(s, func(b []byte) (int, bool, error) { return getXattr(dir, name, b) })
}

func (v *volume) forgetOwner(id uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := v.nodes[id]; n != nil {
		n.kept = nil
	}
}

// keep makes name in dir, whose state is a, have the mode, the owner and the
// device number of want, and returns its state then. The file's ctime changes
// in any case. Two changes of one file at one time are the caller's to prevent.
func (v *volume) keep(dir int, name string, a *attr, want owner) (attr, error) {
	v.mu.Lock()
	n := v.ofStat(a.plainStat())
	if n != nil {
		n.kept = &remembered{changing: true}
	}
	v.mu.Unlock()
	r := &remembered{until: time.Now().Add(settled)}
	s, err := v.change(dir, name, a, want, r)
	if err != nil || s.ino != a.ino || s.dev != a.dev {
		r = nil
	}
	v.mu.Lock()
	if n != nil {
		n.kept = r
	}
	v.mu.Unlock()
	switch {
	case err != nil:
		return attr{}, err
	case r == nil:
		return v.attrAt(dir, name)
	}
	return v.recalled(s, r), nil
}

// change is keep without what is remembered; that is in r afterwards.
func (v *volume) change(dir int, name string, a *attr, want owner, r *remembered) (stat, error) {
	if isSpecial(want.mode) && a.kept {
		want.major, want.minor = a.major, a.minor
	}
	want.host = a.real & allSet
	if a.real&unix.S_IFMT != unix.S_IFLNK {
		host := hostMode(want.mode)
		if host != want.host || v.plain(want) && !a.kept {
			err := chmodAt(dir, name, host)
			switch {
			case err == nil:
				want.host = host
			case !errors.Is(err, unix.EPERM):
				return stat{}, err
			}
			// EPERM: the file is somebody else's. Its mode here can still differ.
		}
	}
	err := error(nil)
	switch {
	case !v.plain(want):
		r.owner, r.kept = want, true
		err = v.setBeside(dir, name, a, want)
	case a.kept:
		err = v.forget(dir, name, a)
	}
	if err != nil {
		return stat{}, err
	}
	s, err := statAt(dir, name)
	if err == nil && s.ctime == a.ctime && (!v.canKeep(a.dev, a.real) || v.isSettled(s)) {
		// What stands in the side store is no change of the file by itself.
		if err = utimesAt(dir, name, s.atime, s.mtime); err == nil {
			s, err = statAt(dir, name)
		}
	}
	r.at = s.ctime
	return s, err
}

func (v *volume) setBeside(dir int, name string, a *attr, want owner) error {
	if v.canKeep(a.dev, a.real) {
		var b [ownerSize]byte
		err := setXattr(dir, name, want.append(b[:0]))
		if err == nil || !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return v.side.set(a.stat, want)
}

// plain tells whether o says nothing that the host does not say by itself.
func (v *volume) plain(o owner) bool {
	if o.uid != v.uid || o.gid != v.gid || isSpecial(o.mode) {
		return false
	}
	return o.mode&unix.S_IFMT == unix.S_IFLNK || o.mode&allSet == o.host
}

// forget removes what stands beside a file.
func (v *volume) forget(dir int, name string, a *attr) error {
	if v.canKeep(a.dev, a.real) {
		err := removeXattr(dir, name)
		if err == nil || !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return v.side.remove(a.stat)
}
