// Package nfs serves folders of the host to guests over NFS version 3 (RFC
// 1813, with MOUNT version 3 on the same TCP port; RFC 5531; RFC 4506), in user
// space and without root.
//
// What the host's user cannot set stands beside a file: its owner in the guest,
// mode bits that the host's user would suffer from, and what devices, fifos and
// sockets that guests make are. See owner.go. The server checks permissions for
// the caller's user and groups itself.
//
// A port of the loopback is open to every user of the host. So the path of an
// export is a secret ([Path]), and file handles carry a keyed MAC.
package nfs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
)

// KeySize is the least length of [Config.Key] in bytes.
const KeySize = 32

// Config is what a server is made of.
type Config struct {
	// Key is a secret of [KeySize] random bytes or more. Whoever knows it can
	// reach the exports. Kept by the project: with another key the paths are
	// others, and guests must mount anew.
	Key []byte
	// Exports are the folders at the beginning; see [Server.Export].
	Exports []Export
	// State is a folder of the server's own, made if it is missing, for the
	// owners of symbolic links and of files on file systems that have no user
	// extended attributes. No two servers may have the same at one time.
	State string
	// Replays are callers for whom nothing happens; nil if there are none.
	Replays *Replays
	// Logger hears, at debug level, what befalls single connections.
	Logger *slog.Logger
}

// Export is a folder that guests can mount.
type Export struct {
	Name string // the last element of the mount path; no slash
	// Dir must exist. It may go away and come again later: until then guests
	// see stale handles, and afterwards the new folder.
	Dir      string
	ReadOnly bool
	// UID and GID are the guest's owner of files that the host made.
	UID, GID uint32
}

// ErrUnsupported is what [NewServer] returns where the package has no server.
var ErrUnsupported = errors.New("the embedded NFS server runs on Linux and macOS only")

// Path returns the path under which the export called name can be mounted by
// those who know it: "/TOKEN/name". The token is 128 bits derived from key.
func Path(key []byte, name string) string {
	return "/" + hex.EncodeToString(derive(key, "path", name)[:16]) + "/" + name
}

// derive returns 32 bytes that depend on all of its arguments.
func derive(key []byte, purpose, name string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("hostctl nfs " + purpose + "\x00" + name))
	return m.Sum(nil)
}
