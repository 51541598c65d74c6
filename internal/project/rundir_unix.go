//go:build !windows

package project

import (
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

const checksOwners = true

// tempDirs are tried in turn: TMPDIR may be too deep for sockets.
func tempDirs() []string { return []string{os.TempDir(), "/tmp"} }

func tempRunParent() string { return runParent + "-" + strconv.Itoa(os.Geteuid()) }

// private reports whether the file is the user's and closed to all others.
func private(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && info.Mode().Perm()&0o077 == 0
}
