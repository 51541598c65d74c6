//go:build !windows

package exports

import (
	"os"
	"strconv"
	"syscall"
)

// Caller is the user who runs this: the one who called sudo, where it was called.
func Caller(getenv func(string) string) Owner {
	o := Owner{os.Getuid(), os.Getgid()}
	if o.UID != 0 {
		return o
	}
	uid, err1 := strconv.Atoi(getenv("SUDO_UID"))
	gid, err2 := strconv.Atoi(getenv("SUDO_GID"))
	if err1 != nil || err2 != nil || uid < 0 || gid < 0 {
		return o
	}
	return Owner{uid, gid}
}

// IsRoot reports whether this process may do what [Server.Apply] does.
func IsRoot() bool { return os.Geteuid() == 0 }

func ownedBy(path string, uid int) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.IsDir() && int(st.Uid) == uid
}

// writableByOthers reports whether somebody but root may change the file, or put
// another in its place in that folder.
func writableByOthers(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 {
		return true
	}
	if info.IsDir() && info.Mode()&os.ModeSticky != 0 {
		return false // what is root's there is root's to rename
	}
	return info.Mode().Perm()&0o022 != 0 && (st.Gid != 0 || info.Mode().Perm()&0o002 != 0)
}

func chownLike(f *os.File, info os.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}
