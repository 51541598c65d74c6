package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// compressions by their magic numbers; file names are not trusted.
var compressions = []struct {
	name  string
	magic []byte
	open  func(io.Reader) (io.ReadCloser, error)
}{
	{"xz", []byte("\xfd7zXZ\x00"), func(r io.Reader) (io.ReadCloser, error) {
		x, err := xz.NewReader(r)
		return io.NopCloser(x), err
	}},
	{"gzip", []byte{0x1f, 0x8b}, func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"bzip2", []byte("BZh"), func(r io.Reader) (io.ReadCloser, error) {
		return io.NopCloser(bzip2.NewReader(r)), nil
	}},
	{"zstd", []byte{0x28, 0xb5, 0x2f, 0xfd}, func(r io.Reader) (io.ReadCloser, error) {
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}},
}

// sniff returns how a file is compressed: "xz", "gzip", "bzip2", "zstd", or ""
// when it is not.
func sniff(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 8))
	if err != nil {
		return "", err
	}
	for _, c := range compressions {
		if bytes.HasPrefix(b, c.magic) {
			return c.name, nil
		}
	}
	return "", nil
}

// unpack decompresses src into the new file dst and returns what the content
// hashed to. A file that is not compressed is copied.
func unpack(ctx context.Context, src, dst, algorithm string, report func(Progress)) (_ Checksum, err error) {
	name, err := sniff(src)
	if err != nil {
		return Checksum{}, err
	}
	in, err := os.Open(src)
	if err != nil {
		return Checksum{}, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return Checksum{}, err
	}
	m := newMeter(report, "decompressing", info.Size())
	r := io.NopCloser(m.reader(ctx, in))
	for _, c := range compressions {
		if c.name == name {
			if r, err = c.open(bufio.NewReaderSize(r, 1<<20)); err != nil {
				return Checksum{}, fmt.Errorf("%s: %s: %w", src, name, err)
			}
		}
	}
	defer r.Close()

	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return Checksum{}, err
	}
	defer func() {
		if err != nil {
			out.Close()
			err = errors.Join(err, os.Remove(dst)) // a full disk gets its space back
		}
	}()
	w := &sparseWriter{f: out, h: newHash(algorithm)}
	blocks := bufio.NewWriterSize(w, holeSize)
	if _, err := io.Copy(blocks, r); err != nil {
		var disk *fs.PathError
		switch {
		case ctx.Err() != nil, errors.As(err, &disk):
			return Checksum{}, err
		case errors.Is(err, io.ErrUnexpectedEOF):
			return Checksum{}, fmt.Errorf("%s: %w: its %s stream has no end", src, ErrTruncated, name)
		}
		return Checksum{}, fmt.Errorf("%s: %s: %w", src, name, err)
	}
	if err := blocks.Flush(); err != nil {
		return Checksum{}, err
	}
	if err := w.finish(); err != nil {
		return Checksum{}, err
	}
	return sumOf(algorithm, w.h), out.Close()
}

// holeSize is the grain of holes: the default cluster size of qcow2.
const holeSize = 64 << 10

// sparseWriter hashes what it writes and leaves holes for blocks of zeros: a
// raw disk is mostly empty.
type sparseWriter struct {
	f    *os.File
	h    hash.Hash
	size int64
}

func (w *sparseWriter) Write(p []byte) (int, error) {
	w.h.Write(p)
	if !isZero(p) {
		if _, err := w.f.WriteAt(p, w.size); err != nil {
			return 0, err
		}
	}
	w.size += int64(len(p))
	return len(p), nil
}

// finish gives the file its length, also behind a last hole, and flushes it.
func (w *sparseWriter) finish() error {
	if err := w.f.Truncate(w.size); err != nil {
		return err
	}
	return w.f.Sync()
}

// isZero compares p with itself, one byte further on.
func isZero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[:len(p)-1], p[1:])
}
