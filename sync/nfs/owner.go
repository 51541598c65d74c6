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
		if r, found := v.recall(s); found {
			return v.merge(s, r.owner, r.kept), nil
		}
		now := time.Now()
		var b [64]byte
		n, found, err := get(b[:])
		switch {
		case err == nil && found:
			o, ok := parseOwner(b[:n])
			v.remember(s, remembered{o, ok, s.ctime}, now)
			return v.merge(s, o, ok), nil
		case err == nil, errors.Is(err, unix.ERANGE):
			v.remember(s, remembered{at: s.ctime}, now)
			return v.merge(s, owner{}, false), nil
		case errors.Is(err, unix.ENOTSUP):
			v.bare.Store(s.dev + 1)
		case !errors.Is(err, unix.EACCES):
			return attr{}, err
		}
	}
	o, kept := v.side.get(s)
	return v.merge(s, o, kept), nil
}

// settled is how old a ctime must be for the next change to have another one:
// it counts in ticks of the host's kernel.
const settled = 100 * time.Millisecond

// recall returns what is kept beside a file if it was read lately and nothing
// of the file has changed since: that would change its ctime.
func (v *volume) recall(s stat) (remembered, bool) {
	id := v.id(s.dev, s.ino)
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.nodes[id]
	if n == nil || n.kept.at != s.ctime || n.gen != generation(s) {
		return remembered{}, false
	}
	return n.kept, true
}

// remember notes what was read at the time now.
func (v *volume) remember(s stat, r remembered, now time.Time) {
	if now.Sub(time.Unix(s.ctime.sec, int64(s.ctime.nsec))) < settled {
		return
	}
	id := v.id(s.dev, s.ino)
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := v.nodes[id]; n != nil && n.gen == generation(s) {
		n.kept = r
	}
}

// keep makes name in dir, whose state is a, have the mode, the owner and the
// device number of want. The file's ctime changes in any case.
func (v *volume) keep(dir int, name string, a *attr, want owner) error {
	if isSpecial(want.mode) && a.kept {
		want.major, want.minor = a.major, a.minor
	}
	want.host = a.real & allSet
	touched := false
	if a.real&unix.S_IFMT != unix.S_IFLNK {
		host := hostMode(want.mode)
		if host != want.host || v.plain(want) && !a.kept {
			err := chmodAt(dir, name, host)
			switch {
			case err == nil:
				want.host, touched = host, true
			case !errors.Is(err, unix.EPERM):
				return err
			}
			// EPERM: the file is somebody else's. Its mode here can still differ.
		}
	}
	switch {
	case v.plain(want) && a.kept:
		return v.forget(dir, name, a)
	case v.plain(want):
	case v.canKeep(a.dev, a.real):
		var b [ownerSize]byte
		err := setXattr(dir, name, want.append(b[:0]))
		if err == nil || !errors.Is(err, unix.ENOTSUP) {
			return err
		}
		fallthrough
	default:
		if err := v.side.set(a.stat, want); err != nil {
			return err
		}
	}
	if touched {
		return nil
	}
	return utimesAt(dir, name, a.atime, a.mtime) // for the ctime
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
	if err := v.side.remove(a.stat); err != nil {
		return err
	}
	return utimesAt(dir, name, a.atime, a.mtime)
}
