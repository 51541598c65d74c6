//go:build linux || darwin

package nfs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// A file handle is, at most 64 bytes:
//
//	4   export
//	8   inode number
//	4   generation, of the time the inode was made: inodes are used again
//	n   path: a byte for each directory above the file, the share's own left
//	    out, that is a hash of the directory's inode number
//	16  HMAC-SHA-256 of the above with the server's key, cut off
//
// Nobody without the key can make one. A server that does not know the inode,
// for it was started since or has forgotten it, finds it by the path, which
// costs reading the directories that lead there. The path is where the file
// was when the handle was made first: a handle does not change with a rename.
const (
	handleFixed = 4 + 8 + 4
	macSize     = 16
	maxHints    = 64 - handleFixed - macSize
)

// rootID is the inode number of every export's root, whatever the folder's own
// is: one that is made again is the same to guests.
const rootID uint64 = 1<<63 - 2

// hint is what a directory adds to the path in handles beneath it.
func hint(id uint64) byte { return byte(id * 0x9e3779b97f4a7c15 >> 56) }

// sealer makes and checks handles.
type sealer struct{ macs sync.Pool }

func newSealer(key []byte) *sealer {
	return &sealer{macs: sync.Pool{New: func() any {
		return &mac{h: hmac.New(sha256.New, key)}
	}}}
}

type mac struct {
	h   hash.Hash
	sum [sha256.Size]byte
}

// handle is one that was made by this server, or another with its key.
type handle struct {
	export uint32
	id     uint64
	gen    uint32
	hints  []byte // part of the message
}

func (s *sealer) append(b []byte, export uint32, id uint64, gen uint32, hints string) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, export)
	b = binary.BigEndian.AppendUint64(b, id)
	b = binary.BigEndian.AppendUint32(b, gen)
	b = append(b, hints...)
	m := s.macs.Get().(*mac)
	defer s.macs.Put(m)
	return append(b, m.of(b[start:])...)
}

func (m *mac) of(b []byte) []byte {
	m.h.Reset()
	m.h.Write(b)
	return m.h.Sum(m.sum[:0])[:macSize]
}

// open returns errBadHandle for what the server did not make.
func (s *sealer) open(b []byte) (handle, error) {
	n := len(b) - macSize
	if n < handleFixed || n > handleFixed+maxHints {
		return handle{}, errBadHandle
	}
	m := s.macs.Get().(*mac)
	defer s.macs.Put(m)
	if !hmac.Equal(m.of(b[:n]), b[n:]) {
		return handle{}, errBadHandle
	}
	return handle{
		export: binary.BigEndian.Uint32(b), id: binary.BigEndian.Uint64(b[4:]),
		gen: binary.BigEndian.Uint32(b[12:]), hints: b[handleFixed:n],
	}, nil
}
