package mirror

import (
	"path"
	"strconv"
	"strings"
	"time"
)

// kind is what an entry of a tree is, by the letters of find's %y.
type kind byte

const (
	file    kind = 'f'
	dir     kind = 'd'
	symlink kind = 'l'
)

// permissions are the mode bits that are mirrored. Set-user-ID, set-group-ID
// and sticky bits are not: a guest must not be able to put them on the host.
const permissions = 0o777

// entry is one file, directory or symbolic link as one side has it.
type entry struct {
	kind   kind
	mode   uint32 // permissions; 0 of links
	size   int64  // of files
	mtime  int64  // of files: nanoseconds since 1970
	ctime  int64  // of the host's files, where it has one, or unknown: 0 elsewhere
	target string // of links
}

// unknown is the ctime of a file that may change without leaving a trace: it
// is the same as nothing, itself included.
const unknown = -1

// tree is what one side has, by path: relative, clean, with slashes. The root
// is not in it, and every entry's parent is a dir in it.
type tree map[string]*entry

// pair is an entry as it was mirrored: what each side had then.
type pair struct{ host, guest entry }

// sameContent reports whether a side still has what was mirrored, its
// permissions aside.
func (e *entry) sameContent(was *entry) bool {
	switch {
	case e == nil || was == nil || e.kind != was.kind:
		return e == was
	case e.kind == file:
		// Setting permissions changes the ctime, too.
		return e.size == was.size && sameTime(e.mtime, was.mtime) &&
			e.ctime != unknown && was.ctime != unknown && (e.ctime == was.ctime || e.mode != was.mode)
	case e.kind == symlink:
		return e.target == was.target
	}
	return true
}

func (e *entry) same(was *entry) bool {
	return e.sameContent(was) && (e == nil || e.mode == was.mode)
}

// alike reports whether two sides have the same, as far as can be told without
// reading files.
func alike(host, guest *entry) bool {
	if host == nil || guest == nil || host.kind != guest.kind {
		return false
	}
	switch host.kind {
	case file:
		return host.size == guest.size && (sameTime(guest.mtime, host.mtime) || sameTime(host.mtime, guest.mtime))
	case symlink:
		return host.target == guest.target
	}
	return true
}

// sameTime reports whether a file has the time that it was given: some file
// systems, and SFTP of version 3, know whole seconds only.
func sameTime(has, given int64) bool {
	return has == given || has%int64(time.Second) == 0 && has == wholeSeconds(given)
}

func wholeSeconds(ns int64) int64 { return ns - ns%int64(time.Second) }

// parent is the directory of a path, "" for the root.
func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// within reports whether p is in the directory d, at any depth.
func within(p, d string) bool {
	return d == "" || len(p) > len(d) && p[len(d)] == '/' && p[:len(d)] == d
}

// validPath reports whether a path that a guest sent names something below the
// root. os.Root checks again what is done with it.
func validPath(p string) bool {
	return p != "" && len(p) < 4096 && p[0] != '/' && path.Clean(p) == p && p != "." && p != ".." &&
		!strings.HasPrefix(p, "../") && strings.IndexByte(p, 0) < 0
}

// inside reports whether the link at p, with that target, leads to a place in
// the share whatever the links on the way to it are, as long as those are
// inside, too: ".." stands only at the beginning, and not too often.
func inside(p, target string) bool {
	if target == "" || target[0] == '/' {
		return false
	}
	depth := strings.Count(p, "/")
	names := strings.Split(target, "/")
	for i, name := range names {
		switch name {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return false
			}
		default:
			for _, rest := range names[i:] {
				if rest == ".." {
					return false
				}
			}
			return true
		}
	}
	return true
}

// conflictName is where the loser of a conflict is kept: beside the winner,
// named for its side and its own time, so that who repeats an interrupted
// synchronisation gives it the same name. Directories and links have no time.
func conflictName(p, side string, mtime int64, taken func(string) bool) string {
	base := path.Base(p)
	ext := path.Ext(base)
	if ext == base {
		ext = "" // .profile
	}
	stem := strings.TrimSuffix(p, ext)
	stem += ".conflict-" + side
	if mtime != 0 {
		stem += time.Unix(0, mtime).UTC().Format("-20060102T150405")
	}
	name := stem + ext
	for n := 2; taken(name); n++ {
		name = stem + "-" + strconv.Itoa(n) + ext
	}
	return name
}
