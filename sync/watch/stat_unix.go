//go:build linux || darwin

package watch

import (
	"io/fs"
	"syscall"
)

// idOf returns what tells a file apart from all others that there are now.
func idOf(info fs.FileInfo) uint64 {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return mix(uint64(s.Dev), s.Ino) //nolint:unconvert // macOS has 32 bits with a sign
}

func ownerOf(s *syscall.Stat_t) uint64 { return uint64(s.Uid)<<32 | uint64(s.Gid) }
