//go:build linux || darwin

package nfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/renameio/v2"
)

// sideStore keeps owners for files that cannot have extended attributes. A file
// is known by its device, its inode and the time it was made, so that another
// one that gets the inode later is not taken for it.
//
// On disk it is a log of records of one size, the last of a file being the one
// that holds. It is written anew when most of it is dead.
type sideStore struct {
	path string

	mu    sync.Mutex
	file  *os.File // nil before the first change
	byKey map[sideKey]owner
	lines int // records in the file
}

type sideKey struct {
	dev, ino uint64
	sec      int64
	nsec     uint32
}

const sideRecord = 28 + 24 + 4

func keyOf(s stat) sideKey { return sideKey{s.dev, s.ino, s.btime.sec, s.btime.nsec} }

func openSideStore(dir string) (*sideStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &sideStore{path: filepath.Join(dir, "owners"), byKey: map[sideKey]owner{}}
	b, err := os.ReadFile(s.path)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("owners of links: %w", err)
	}
	whole := true
	for len(b) > 0 {
		if len(b) < sideRecord || crc32.ChecksumIEEE(b[:sideRecord-4]) != binary.BigEndian.Uint32(b[sideRecord-4:]) {
			whole = false // cut off in the middle of a write
			break
		}
		k, o := parseSide(b)
		if o.mode == 0 {
			delete(s.byKey, k)
		} else {
			s.byKey[k] = o
		}
		s.lines++
		b = b[sideRecord:]
	}
	if !whole {
		return s, s.rewrite()
	}
	return s, nil
}

func parseSide(b []byte) (k sideKey, o owner) {
	k.dev, k.ino = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	k.sec, k.nsec = int64(binary.BigEndian.Uint64(b[16:])), binary.BigEndian.Uint32(b[24:])
	for i, p := range [...]*uint32{&o.mode, &o.host, &o.uid, &o.gid, &o.major, &o.minor} {
		*p = binary.BigEndian.Uint32(b[28+4*i:])
	}
	return k, o
}

func appendSide(b []byte, k sideKey, o owner) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, k.dev)
	b = binary.BigEndian.AppendUint64(b, k.ino)
	b = binary.BigEndian.AppendUint64(b, uint64(k.sec))
	b = binary.BigEndian.AppendUint32(b, k.nsec)
	for _, v := range [...]uint32{o.mode, o.host, o.uid, o.gid, o.major, o.minor} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

func (s *sideStore) get(st stat) (owner, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, found := s.byKey[keyOf(st)]
	return o, found
}

func (s *sideStore) set(st stat, o owner) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := keyOf(st)
	before, had := s.byKey[k]
	s.byKey[k] = o
	err := s.log(k, o)
	if err != nil {
		delete(s.byKey, k)
		if had {
			s.byKey[k] = before
		}
	}
	return err
}

// remove is called when the last link of a file goes.
func (s *sideStore) remove(st stat) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := keyOf(st)
	if _, found := s.byKey[k]; !found {
		return nil
	}
	delete(s.byKey, k)
	return s.log(k, owner{})
}

// log writes one record. s.mu is held.
func (s *sideStore) log(k sideKey, o owner) error {
	if s.lines > 2*len(s.byKey)+1024 {
		return s.rewrite()
	}
	if s.file == nil {
		f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekEnd); err != nil {
			f.Close()
			return err
		}
		s.file = f
	}
	var b [sideRecord]byte
	if _, err := s.file.Write(appendSide(b[:0], k, o)); err != nil {
		// Part of it may stand there, and would hide what comes after it.
		s.file.Close()
		s.file = nil
		return errors.Join(err, os.Truncate(s.path, int64(s.lines)*sideRecord))
	}
	s.lines++
	return nil
}

// rewrite writes what holds. s.mu is held, or nobody else has s.
func (s *sideStore) rewrite() error {
	b := make([]byte, 0, len(s.byKey)*sideRecord)
	for k, o := range s.byKey {
		b = appendSide(b, k, o)
	}
	if err := renameio.WriteFile(s.path, b, 0o600); err != nil {
		return err
	}
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
	s.lines = len(s.byKey)
	return nil
}

func (s *sideStore) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Sync()
	s.file.Close()
	s.file = nil
	return err
}
