package qcow2

import (
	"encoding/binary"
	"fmt"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	valid, err := binary.Append(nil, binary.BigEndian, Header{
		Magic: [4]byte([]byte(Magic)), Version: 3, ClusterBits: 16, Size: 10 << 30, L1Size: 20, L1TableOffset: 3 << 16,
		RefcountTableClusters: 1, RefcountTableOffset: 1 << 16,
	})
	if err != nil {
		t.Fatal(err)
	}
	valid = append(valid, make([]byte, 512-len(valid))...)
	with := func(offset int, value uint64, size int) []byte {
		b := append([]byte(nil), valid...)
		switch size {
		case 4:
			binary.BigEndian.PutUint32(b[offset:], uint32(value))
		case 8:
			binary.BigEndian.PutUint64(b[offset:], value)
		}
		return b
	}
	// The second version, which Flatcar writes, ends before the features.
	old := with(4, 2, 4)
	for i := headerLenV2; i < len(old); i++ {
		old[i] = 0xff
	}
	for _, test := range []struct {
		name string
		b    []byte
		want string
	}{
		{"version 3", valid, "<nil>"},
		{"version 2", old, "<nil>"},
		{"version 4", with(4, 4, 4), "qcow2 version 4 is unknown"},
		{"backing file", with(8, 512, 8), "qcow2 image depends on a backing file"},
		{"data file", with(72, externalData, 8), "qcow2 image keeps its data in another file"},
		{"corrupt", with(72, corrupt, 8), "qcow2 image is marked corrupt"},
		{"encrypted", with(32, 2, 4), "qcow2 image is encrypted"},
		{"clusters", with(20, 99, 4), "qcow2 cluster size 2^99 is out of range"},
		{"no size", with(24, 0, 8), "qcow2 image has no size"},
		{"size", with(24, 1<<62, 8), "qcow2 size of 4611686018427387904 bytes is out of range"},
		{"table", with(40, 1<<60, 8), "qcow2 table lies outside of any file"},
		{"no qcow2", with(0, 0, 4), "no qcow2 header"},
		{"short", valid[:60], "qcow2 header is cut off"},
		{"short version 3", valid[:80], "qcow2 header is cut off"},
	} {
		d, err := Parse(test.b)
		if fmt.Sprint(err) != test.want || err == nil && (d.Size != 10<<30 || d.MinLen != 3<<16+20*8) {
			t.Errorf("%s: got %+v, %v", test.name, d, err)
		}
	}
}
