package watch

import (
	"io/fs"
	"syscall"
	"time"
)

// changeOf returns when anything about a file was changed last, and its owner.
func changeOf(info fs.FileInfo) (time.Time, uint64) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime(), 0
	}
	return time.Unix(s.Ctim.Unix()), ownerOf(s)
}

const limitHint = "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances by sysctl; until then everything is looked at every few seconds"
