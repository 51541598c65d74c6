// Package inode reads what the system knows of a file beside [io/fs.FileInfo]:
// which one it is, and when anything about it was changed.
package inode

import "time"

// Inode tells a file from all others that there are now, and from itself before
// a change.
type Inode struct {
	Device, Number uint64
	// Changed is the ctime: of the last change of content, permissions, owner
	// or names. No program can set it.
	Changed  time.Time
	UID, GID uint32
}
