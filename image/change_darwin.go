package image

import (
	"fmt"
	"io/fs"
	"syscall"
)

// changeOf tells a file from one that was put in its place, and from itself
// after a write whose time was set back: its inode and the time of its last
// change, which no program can set.
func changeOf(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d.%09d", st.Ino, st.Ctimespec.Sec, st.Ctimespec.Nsec)
}
