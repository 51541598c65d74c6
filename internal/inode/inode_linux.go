package inode

import (
	"io/fs"
	"syscall"
	"time"
)

// Of is false where the system does not tell.
func Of(info fs.FileInfo) (Inode, bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Inode{}, false
	}
	return Inode{s.Dev, s.Ino, time.Unix(s.Ctim.Unix()), s.Uid, s.Gid}, true
}
