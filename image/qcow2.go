package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
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

// qcow2Header is the part of the header that versions 2 and 3 share, then the
// features of version 3: QEMU docs/interop/qcow2.rst.
type qcow2Header struct {
	Magic                 [4]byte
	Version               uint32
	BackingFileOffset     uint64
	BackingFileSize       uint32
	ClusterBits           uint32
	Size                  uint64
	CryptMethod           uint32
	L1Size                uint32
	L1TableOffset         uint64
	RefcountTableOffset   uint64
	RefcountTableClusters uint32
	NbSnapshots           uint32
	SnapshotsOffset       uint64
	IncompatibleFeatures  uint64 // version 3
}

const (
	qcow2HeaderV2Len = 72
	qcow2HeaderV3Len = 104

	qcow2Corrupt      = 1 << 1
	qcow2ExternalData = 1 << 2
)

var qcow2Magic = []byte("QFI\xfb")

// parseQcow2 reads a qcow2 header and refuses what must not become a base
// disk: one that names further files of the host (QEMU would open them), an
// encrypted or a corrupt one.
func parseQcow2(b []byte) (header, error) {
	var h qcow2Header
	if len(b) < qcow2HeaderV2Len {
		return header{}, errors.New("qcow2 header is cut off")
	}
	padded := make([]byte, binary.Size(h))
	copy(padded, b)
	if _, err := binary.Decode(padded, binary.BigEndian, &h); err != nil {
		return header{}, err
	}
	if h.Version < 3 {
		h.IncompatibleFeatures = 0 // what stands there is not the header any more
	} else if len(b) < qcow2HeaderV3Len {
		return header{}, errors.New("qcow2 header is cut off")
	}
	clusterSize := uint64(1) << min(h.ClusterBits, 63)
	switch {
	case !bytes.Equal(h.Magic[:], qcow2Magic):
		return header{}, errors.New("no qcow2 header")
	case h.Version != 2 && h.Version != 3:
		return header{}, fmt.Errorf("qcow2 version %d is unknown", h.Version)
	case h.BackingFileOffset != 0:
		return header{}, errors.New("qcow2 image depends on a backing file")
	case h.IncompatibleFeatures&qcow2ExternalData != 0:
		return header{}, errors.New("qcow2 image keeps its data in another file")
	case h.IncompatibleFeatures&qcow2Corrupt != 0:
		return header{}, errors.New("qcow2 image is marked corrupt")
	case h.CryptMethod != 0:
		return header{}, errors.New("qcow2 image is encrypted")
	case h.ClusterBits < 9 || h.ClusterBits > 21: // QEMU's own limits
		return header{}, fmt.Errorf("qcow2 cluster size 2^%d is out of range", h.ClusterBits)
	case h.Size == 0:
		return header{}, errors.New("qcow2 image has no size")
	case h.Size > 1<<60:
		return header{}, fmt.Errorf("qcow2 size of %d bytes is out of range", h.Size)
	}
	const maxOffset = 1 << 56 // offsets have 56 bits
	l1End := h.L1TableOffset + uint64(h.L1Size)*8
	refEnd := h.RefcountTableOffset + uint64(h.RefcountTableClusters)*clusterSize
	if h.L1TableOffset > maxOffset || h.RefcountTableOffset > maxOffset {
		return header{}, errors.New("qcow2 table lies outside of any file")
	}
	return header{format: formatQcow2, size: h.Size, minLen: int64(max(l1End, refEnd))}, nil
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
	case bytes.HasPrefix(b, qcow2Magic):
		return parseQcow2(b)
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
