package nfs

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// See sys_linux.go. Darwin has no descriptors that only name a file: what is
// opened is looked at first, and again afterwards.
const (
	dirFlags  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	pathFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
)

func statAt(dir int, name string) (stat, error) {
	var s unix.Stat_t
	err := retry(func() error { return unix.Fstatat(dir, name, &s, unix.AT_SYMLINK_NOFOLLOW) })
	return fromStat(&s), err
}

func statFD(fd int) (stat, error) {
	var s unix.Stat_t
	err := retry(func() error { return unix.Fstat(fd, &s) })
	return fromStat(&s), err
}

func fromStat(s *unix.Stat_t) stat {
	at := func(t unix.Timespec) stamp { return stamp{t.Sec, uint32(t.Nsec)} }
	return stat{
		dev: uint64(uint32(s.Dev)), ino: s.Ino, mode: uint32(s.Mode), nlink: uint32(s.Nlink),
		size: uint64(s.Size), used: uint64(s.Blocks) * 512,
		major: unix.Major(uint64(s.Rdev)), minor: unix.Minor(uint64(s.Rdev)),
		atime: at(s.Atim), mtime: at(s.Mtim), ctime: at(s.Ctim), btime: at(s.Btim),
	}
}

// openFile opens the regular file name for reading or writing, nothing else.
func openFile(dir int, name string, write bool) (int, error) {
	flags := unix.O_RDONLY
	if write {
		flags = unix.O_RDWR
	}
	return openPlain(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, unix.S_IFREG)
}

// openPlain opens name if it is of one of the kinds. A fifo that takes its
// place meanwhile does not block, and is closed again.
func openPlain(dir int, name string, flags int, kinds ...uint32) (int, error) {
	is := func(s stat, err error) error {
		if err != nil {
			return err
		}
		for _, k := range kinds {
			if s.mode&unix.S_IFMT == k {
				return nil
			}
		}
		return errInval
	}
	if err := is(statAt(dir, name)); err != nil {
		return -1, err
	}
	fd, err := openAt(dir, name, flags, 0)
	if err != nil {
		return -1, err
	}
	if err := is(statFD(fd)); err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

func chmodAt(dir int, name string, mode uint32) error {
	return unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
}

const xattr = "user.hostctl.owner"

func withFile(dir int, name string, do func(fd int) error) error {
	fd, err := openPlain(dir, name, pathFlags, unix.S_IFREG, unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	return do(fd)
}

func getXattr(dir int, name string, b []byte) (n int, found bool, err error) {
	err = withFile(dir, name, func(fd int) error {
		n, found, err = getXattrFD(fd, b)
		return err
	})
	return n, found, err
}

func getXattrFD(fd int, b []byte) (int, bool, error) {
	n, err := unix.Fgetxattr(fd, xattr, b)
	return n, err == nil, ignoreNoXattr(err)
}

func ignoreNoXattr(err error) error {
	if errors.Is(err, unix.ENOATTR) {
		return nil
	}
	return err
}

func setXattr(dir int, name string, b []byte) error {
	return withFile(dir, name, func(fd int) error { return unix.Fsetxattr(fd, xattr, b, 0) })
}

func removeXattr(dir int, name string) error {
	return withFile(dir, name, func(fd int) error { return ignoreNoXattr(unix.Fremovexattr(fd, xattr)) })
}

type dirent struct {
	ino  uint64
	next uint64
	kind uint8
	name []byte
}

// readDir is as on Linux, but its cookies count elements: those that come and
// go between two calls can make it miss or repeat others.
func readDir(dir int, cookie uint64, buf []byte, each func(*dirent) bool) error {
	fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	var count uint64
	var base uintptr
	for {
		n, err := unix.Getdirentries(fd, buf, &base)
		if err != nil || n == 0 {
			return err
		}
		for b := buf[:n]; len(b) >= 21; {
			size, length := int(binary.NativeEndian.Uint16(b[16:])), int(binary.NativeEndian.Uint16(b[18:]))
			if size < 21 || size > len(b) || 21+length > size {
				return unix.EIO
			}
			count++
			e := dirent{ino: binary.NativeEndian.Uint64(b), next: count, kind: b[20], name: b[21 : 21+length]}
			b = b[size:]
			if count > cookie && !each(&e) {
				return nil
			}
		}
	}
}

func dataSync(fd int) error { return fullSync(fd) }

// fullSync has the drive write its cache, too: fsync does not on Darwin.
func fullSync(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0); err == nil {
		return nil
	}
	return retry(func() error { return unix.Fsync(fd) })
}

func space(dir int) (total, free, avail, files, freeFiles uint64, err error) {
	var f unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(dir, &f) }); err != nil {
		return 0, 0, 0, 0, 0, err
	}
	size := uint64(f.Bsize)
	return f.Blocks * size, f.Bfree * size, f.Bavail * size, f.Files, f.Ffree, nil
}

const caseInsensitive = true

const utimeOmit = -2
