package watch

import (
	"io/fs"
	"time"

	"github.com/hostctl/hostctl/internal/inode"
)

// idOf returns what tells a file apart from all others that there are now, or 0
// where files are not told apart.
func idOf(info fs.FileInfo) uint64 {
	i, ok := inode.Of(info)
	if !ok {
		return 0
	}
	return mix(i.Device, i.Number)
}

// changeOf returns when anything about a file was changed last, and its owner,
// as far as that is known.
func changeOf(info fs.FileInfo) (time.Time, uint64) {
	i, ok := inode.Of(info)
	if !ok {
		return info.ModTime(), 0
	}
	return i.Changed, uint64(i.UID)<<32 | uint64(i.GID)
}
