//go:build !windows

package libvirt

import (
	"io/fs"
	"syscall"
)

// permits reports whether a file's mode lets a user do what the bits of others say.
// Groups that he is in besides his own are not known here.
func permits(info fs.FileInfo, uid, gid uint32, want fs.FileMode) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return false
	case st.Uid == uid:
		want <<= 6
	case st.Gid == gid:
		want <<= 3
	}
	return info.Mode()&want == want
}
