package image

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

func FuzzVersionFile(f *testing.F) {
	f.Add([]byte("FLATCAR_BUILD=4593\nFLATCAR_VERSION=4593.2.5\nFLATCAR_BUILD_ID=\"x\"\n"))
	f.Add([]byte("FLATCAR_VERSION='1.2.3'"))
	f.Fuzz(func(t *testing.T, b []byte) {
		version, err := parseVersionFile(b)
		if err == nil && !flatcarVersion.MatchString(version) {
			t.Errorf("accepted %q", version)
		}
	})
}

func FuzzDigests(f *testing.F) {
	f.Add([]byte("# MD5 HASH\n00  f\n# SHA512 HASH\n" + strings.Repeat("ab", 64) + "  f\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum, err := parseDigests(b, "f")
		if err == nil && (sum.Algorithm != "sha512" || len(sum.Hex) != 128) {
			t.Errorf("accepted %v", sum)
		}
	})
}

func FuzzStream(f *testing.F) {
	f.Add(fmt.Appendf(nil, `{"architectures": {"x86_64": {"artifacts": {"qemu": {"release": "44.20260707.3.1", "formats":
		{"qcow2.xz": {"disk": {"location": "https://h/f", "signature": "https://h/f.sig", "sha256": "%064d"}}}}}}}}`, 0))
	publisher := Catalog()[2].Publisher.(FedoraCoreOS)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := publisher.parseStream(b, "x86_64")
		if err == nil && (!versionName.MatchString(r.version) || !strings.HasPrefix(r.disk.url, "https://") || r.disk.checksum.IsZero()) {
			t.Errorf("accepted %+v", r)
		}
	})
}

func FuzzDiskHeader(f *testing.F) {
	f.Add(testDisk("x", 0)[:512], int64(1<<20))
	raw := make([]byte, 512)
	raw[510], raw[511] = 0x55, 0xaa
	f.Add(raw, int64(1<<20))
	f.Add([]byte("QFI\xfb"), int64(4))
	f.Fuzz(func(t *testing.T, b []byte, length int64) {
		h, err := parseDisk(b, length)
		if err == nil && (h.size == 0 || h.minLen < 0) && length > 0 {
			t.Errorf("accepted %+v", h)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes 0-0/*")
	f.Fuzz(func(t *testing.T, s string) {
		start, total, ok := parseContentRange(s)
		if ok && (start < 0 || start >= total) {
			t.Errorf("accepted %d of %d", start, total)
		}
	})
}

func TestQcow2(t *testing.T) {
	t.Parallel()
	valid := testDisk("x", 0)[:512]
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
	for i := qcow2HeaderV2Len; i < len(old); i++ {
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
		{"data file", with(72, qcow2ExternalData, 8), "qcow2 image keeps its data in another file"},
		{"corrupt", with(72, qcow2Corrupt, 8), "qcow2 image is marked corrupt"},
		{"encrypted", with(32, 2, 4), "qcow2 image is encrypted"},
		{"clusters", with(20, 99, 4), "qcow2 cluster size 2^99 is out of range"},
		{"no size", with(24, 0, 8), "qcow2 image has no size"},
		{"size", with(24, 1<<62, 8), "qcow2 size of 4611686018427387904 bytes is out of range"},
		{"table", with(40, 1<<60, 8), "qcow2 table lies outside of any file"},
		{"short", valid[:60], "qcow2 header is cut off"},
		{"short version 3", valid[:80], "qcow2 header is cut off"},
	} {
		h, err := parseDisk(test.b, 1<<20)
		if fmt.Sprint(err) != test.want || err == nil && h.size != 10<<30 {
			t.Errorf("%s: got %+v, %v", test.name, h, err)
		}
	}
}
