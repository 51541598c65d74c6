// Package qcow2 reads the headers of QEMU's disk images.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Header is the part of the header that versions 2 and 3 share, then the
// features of version 3: QEMU docs/interop/qcow2.rst.
type Header struct {
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
	headerLenV2 = 72
	headerLenV3 = 104

	corrupt      = 1 << 1
	externalData = 1 << 2
)

// Magic is how every image begins.
const Magic = "QFI\xfb"

// MaxHeader is how many bytes of an image [Parse] looks at.
const MaxHeader = headerLenV3

// Disk is what the header tells.
type Disk struct {
	Size   uint64 // virtual, in bytes
	MinLen int64  // a file shorter than this has lost its end
}

// Parse reads the first bytes of an image and refuses what must not become a base
// disk: one that names further files of the host (QEMU would open them), an
// encrypted or a corrupt one.
func Parse(b []byte) (Disk, error) {
	var h Header
	if len(b) < headerLenV2 {
		return Disk{}, errors.New("qcow2 header is cut off")
	}
	padded := make([]byte, binary.Size(h))
	copy(padded, b)
	if _, err := binary.Decode(padded, binary.BigEndian, &h); err != nil {
		return Disk{}, err
	}
	if h.Version < 3 {
		h.IncompatibleFeatures = 0 // what stands there is not the header any more
	} else if len(b) < headerLenV3 {
		return Disk{}, errors.New("qcow2 header is cut off")
	}
	clusterSize := uint64(1) << min(h.ClusterBits, 63)
	switch {
	case string(h.Magic[:]) != Magic:
		return Disk{}, errors.New("no qcow2 header")
	case h.Version != 2 && h.Version != 3:
		return Disk{}, fmt.Errorf("qcow2 version %d is unknown", h.Version)
	case h.BackingFileOffset != 0:
		return Disk{}, errors.New("qcow2 image depends on a backing file")
	case h.IncompatibleFeatures&externalData != 0:
		return Disk{}, errors.New("qcow2 image keeps its data in another file")
	case h.IncompatibleFeatures&corrupt != 0:
		return Disk{}, errors.New("qcow2 image is marked corrupt")
	case h.CryptMethod != 0:
		return Disk{}, errors.New("qcow2 image is encrypted")
	case h.ClusterBits < 9 || h.ClusterBits > 21: // QEMU's own limits
		return Disk{}, fmt.Errorf("qcow2 cluster size 2^%d is out of range", h.ClusterBits)
	case h.Size == 0:
		return Disk{}, errors.New("qcow2 image has no size")
	case h.Size > 1<<60:
		return Disk{}, fmt.Errorf("qcow2 size of %d bytes is out of range", h.Size)
	}
	const maxOffset = 1 << 56 // offsets have 56 bits
	l1End := h.L1TableOffset + uint64(h.L1Size)*8
	refEnd := h.RefcountTableOffset + uint64(h.RefcountTableClusters)*clusterSize
	if h.L1TableOffset > maxOffset || h.RefcountTableOffset > maxOffset {
		return Disk{}, errors.New("qcow2 table lies outside of any file")
	}
	return Disk{Size: h.Size, MinLen: int64(max(l1End, refEnd))}, nil
}
