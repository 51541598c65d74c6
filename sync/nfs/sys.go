//go:build linux || darwin

package nfs

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// stamp is a point in time of a file.
type stamp struct {
	sec  int64
	nsec uint32
}

// stat is what the host's file system says about a file. btime is zero where it
// does not say when it was made.
type stat struct {
	dev, ino                   uint64
	mode, nlink                uint32
	major, minor               uint32
	size, used                 uint64
	atime, mtime, ctime, btime stamp
}

func (s *stat) isDir() bool { return s.mode&unix.S_IFMT == unix.S_IFDIR }

func openAt(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error { fd, err = unix.Openat(dir, name, flags, mode); return err })
	return fd, err
}

// openDir opens a directory to name what is in it.
func openDir(dir int, name string) (int, error) { return openAt(dir, name, dirFlags, 0) }

// closeFD has nothing to report: what was written is synced when that is asked
// for, and errors come from there.
func closeFD(fd int) { _ = unix.Close(fd) }

// retry goes on when a signal interrupts.
func retry(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// cString returns b up to its NUL.
func cString(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// omit leaves a time as it is in utimesAt.
var omit = stamp{nsec: 1 << 31}

func utimesAt(dir int, name string, atime, mtime stamp) error {
	ts := make([]unix.Timespec, 2)
	for i, t := range [2]stamp{atime, mtime} {
		ts[i] = unix.Timespec{Sec: t.sec, Nsec: int64(t.nsec)}
		if t == omit {
			ts[i] = unix.Timespec{Nsec: utimeOmit}
		}
	}
	return retry(func() error { return unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW) })
}

// readLink returns the target of the symbolic link name.
func readLink(dir int, name string, buf []byte) ([]byte, error) {
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}
