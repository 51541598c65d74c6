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
	return time.Unix(s.Ctimespec.Unix()), ownerOf(s)
}

const limitHint = "raise the limit of open files by \"ulimit -n\"; until then everything is looked at every few seconds"
