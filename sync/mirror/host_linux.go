package mirror

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// modesCount is false where files have no permissions of their own.
const modesCount = true

// rootIdentity tells a folder from one that was made in its place, which may
// have got the same inode.
func rootIdentity(root *os.Root) (string, error) {
	f, err := root.Open(".")
	if err != nil {
		return "", err
	}
	defer f.Close()
	var s unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &s); err != nil {
		return "", &fs.PathError{Op: "statx", Path: root.Name(), Err: err}
	}
	return fmt.Sprintf("%d:%d:%d:%d.%d", s.Dev_major, s.Dev_minor, s.Ino, s.Btime.Sec, s.Btime.Nsec), nil
}
