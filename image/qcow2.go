package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hostctl/hostctl/internal/qcow2"
)

// Disk formats.
const (
	formatQcow2 = "qcow2"
	formatRaw   = "raw"
)

// header is what the first bytes of a disk tell.
type header struct {
	format string
	size   uint64 // virtual, in bytes
	minLen int64  // a file shorter than this has lost its end
}

// inspect finds out what kind of disk a file is. A file that is none, or that
// has lost its end, is an error.
func inspect(path string) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return header{}, err
	}
	if !info.Mode().IsRegular() {
		return header{}, fmt.Errorf("%s: %w: not a regular file", path, ErrFormat)
	}
	b, err := io.ReadAll(io.LimitReader(f, 512))
	if err != nil {
		return header{}, err
	}
	h, err := parseDisk(b, info.Size())
	if err != nil {
		return header{}, fmt.Errorf("%s: %w: %w", path, ErrFormat, err)
	}
	if info.Size() < h.minLen {
		return header{}, &TruncatedError{Subject: path, Want: h.minLen, Got: info.Size()}
	}
	return h, nil
}

// parseDisk tells a disk of length bytes by its first sector.
func parseDisk(b []byte, length int64) (header, error) {
	switch {
	case length == 0:
		return header{}, errors.New("file is empty")
	case bytes.HasPrefix(b, []byte(qcow2.Magic)):
		d, err := qcow2.Parse(b)
		return header{format: formatQcow2, size: d.Size, minLen: d.MinLen}, err
	case bytes.HasPrefix(b, []byte("KDMV")), bytes.HasPrefix(b, []byte("# Disk DescriptorFile")):
		return header{}, errors.New("VMDK is not supported, only qcow2 and raw")
	case bytes.HasPrefix(b, []byte("conectix")), bytes.HasPrefix(b, []byte("vhdxfile")):
		return header{}, errors.New("VHD is not supported, only qcow2 and raw")
	case bytes.HasPrefix(b, []byte("<<< ")):
		return header{}, errors.New("VDI is not supported, only qcow2 and raw")
	case len(b) < 512 || b[510] != 0x55 || b[511] != 0xaa:
		// MBR and the protective MBR of GPT both end so.
		return header{}, errors.New("neither qcow2 nor a raw disk with a boot sector")
	case length%512 != 0:
		return header{}, fmt.Errorf("raw disk of %d bytes ends within a sector", length)
	}
	return header{format: formatRaw, size: uint64(length), minLen: length}, nil
}
