package nfs

import (
	"encoding/binary"
	"errors"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Every access names one element beneath the descriptor of a directory, and
// follows no link there: what it reaches is inside the share whatever happens
// to the tree meanwhile. The element "." is the directory itself.

// pathFlags are those of descriptors that only name what they are open for.
const (
	dirFlags  = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	pathFlags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

func statAt(dir int, name string) (stat, error) {
	var x unix.Statx_t
	err := retry(func() error {
		return unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x)
	})
	return fromStatx(&x), err
}

func statFD(fd int) (stat, error) {
	var x unix.Statx_t
	err := retry(func() error {
		return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x)
	})
	return fromStatx(&x), err
}

func fromStatx(x *unix.Statx_t) stat {
	s := stat{
		dev: uint64(x.Dev_major)<<32 | uint64(x.Dev_minor), ino: x.Ino,
		mode: uint32(x.Mode), nlink: x.Nlink, size: x.Size, used: x.Blocks * 512,
		major: x.Rdev_major, minor: x.Rdev_minor,
		atime: stamp{x.Atime.Sec, x.Atime.Nsec}, mtime: stamp{x.Mtime.Sec, x.Mtime.Nsec}, ctime: stamp{x.Ctime.Sec, x.Ctime.Nsec},
	}
	if x.Mask&unix.STATX_BTIME != 0 {
		s.btime = stamp{x.Btime.Sec, x.Btime.Nsec}
	}
	return s
}

// self is the path of what fd is open for. It leads to exactly that, also where
// the descriptor is O_PATH.
func self(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// openFile opens the regular file name for reading or writing. Anything else is
// not opened: opening a device or a fifo has effects.
func openFile(dir int, name string, write bool) (int, error) {
	path, err := openAt(dir, name, pathFlags, 0)
	if err != nil {
		return -1, err
	}
	defer closeFD(path)
	s, err := statFD(path)
	if err != nil {
		return -1, err
	}
	if s.mode&unix.S_IFMT != unix.S_IFREG {
		return -1, errInval
	}
	flags := unix.O_RDONLY
	if write {
		flags = unix.O_RDWR
	}
	return openAt(unix.AT_FDCWD, self(path), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}

func chmodAt(dir int, name string, mode uint32) error {
	err := unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return err
	}
	// Before Linux 6.6, or where a filter of system calls does not know it.
	path, err := openAt(dir, name, pathFlags, 0)
	if err != nil {
		return err
	}
	defer closeFD(path)
	s, err := statFD(path)
	if err != nil {
		return err
	}
	if s.mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	return unix.Chmod(self(path), mode)
}

// xattr holds what owner.go keeps beside a file.
const xattr = "user.hostctl.owner"

// getXattr returns what stands beside the file name, false when nothing does.
func getXattr(dir int, name string, b []byte) (int, bool, error) {
	n, err := xattrAt(unix.SYS_GETXATTRAT, dir, name, b)
	if mayLackXattrAt(err) {
		n, err = unix.Lgetxattr(self(dir)+"/"+name, xattr, b)
	}
	return n, err == nil, ignoreNoXattr(err)
}

func getXattrFD(fd int, b []byte) (int, bool, error) {
	n, err := unix.Fgetxattr(fd, xattr, b)
	return n, err == nil, ignoreNoXattr(err)
}

func ignoreNoXattr(err error) error {
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

func setXattr(dir int, name string, b []byte) error {
	if _, err := xattrAt(unix.SYS_SETXATTRAT, dir, name, b); !mayLackXattrAt(err) {
		return err
	}
	return unix.Lsetxattr(self(dir)+"/"+name, xattr, b, 0)
}

func removeXattr(dir int, name string) error {
	return ignoreNoXattr(unix.Lremovexattr(self(dir)+"/"+name, xattr))
}

// xattrAt is getxattrat(2) and setxattrat(2), which are of Linux 6.13. By the path
// in /proc each would take twice as long.
func xattrAt(call uintptr, dir int, name string, b []byte) (int, error) {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	attribute, err := unix.BytePtrFromString(xattr)
	if err != nil {
		return 0, err
	}
	args := xattrArgs{value: unsafe.Pointer(unsafe.SliceData(b)), size: uint32(len(b))}
	n, _, errno := unix.Syscall6(call, uintptr(dir), uintptr(unsafe.Pointer(path)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(attribute)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// mayLackXattrAt tells whether the system may not have the calls. Filters of
// containers say EPERM to what they do not know.
func mayLackXattrAt(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
}

// xattrArgs is struct xattr_args of linux/xattr.h, where the pointer takes 64 bits
// everywhere.
type xattrArgs struct {
	value unsafe.Pointer
	_     [8 - unsafe.Sizeof(uintptr(0))]byte
	size  uint32
	flags uint32
}

// dirent is an element of a directory. next is the cookie to go on after it.
type dirent struct {
	ino  uint64
	next uint64
	kind uint8 // DT_*
	name []byte
}

// readDir calls each for what stands after cookie, 0 being the start, until it
// returns false. name is only valid during the call. Cookies are those of the
// file system: they hold while elements come and go, and need no memory.
func readDir(dir int, cookie uint64, buf []byte, each func(*dirent) bool) error {
	fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	if cookie != 0 {
		if _, err := unix.Seek(fd, int64(cookie), unix.SEEK_SET); err != nil {
			return errBadCookie
		}
	}
	for {
		var n int
		err := retry(func() (err error) { n, err = unix.Getdents(fd, buf); return })
		if err != nil || n == 0 {
			return err
		}
		for b := buf[:n]; len(b) >= 19; {
			size := int(binary.NativeEndian.Uint16(b[16:]))
			if size < 19 || size > len(b) {
				return unix.EIO
			}
			e := dirent{
				ino: binary.NativeEndian.Uint64(b), next: binary.NativeEndian.Uint64(b[8:]),
				kind: b[18], name: cString(b[19:size]),
			}
			if !each(&e) {
				return nil
			}
			b = b[size:]
		}
	}
}

// dataSync makes the file's contents last, and what is needed to read them.
func dataSync(fd int) error { return retry(func() error { return unix.Fdatasync(fd) }) }

func fullSync(fd int) error { return retry(func() error { return unix.Fsync(fd) }) }

// space is what FSSTAT tells, in bytes and inodes.
func space(dir int) (total, free, avail, files, freeFiles uint64, err error) {
	var f unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(dir, &f) }); err != nil {
		return 0, 0, 0, 0, 0, err
	}
	size := uint64(f.Frsize)
	return f.Blocks * size, f.Bfree * size, f.Bavail * size, f.Files, f.Ffree, nil
}

const caseInsensitive = false

const utimeOmit = unix.UTIME_OMIT
