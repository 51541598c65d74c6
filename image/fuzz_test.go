package image

import (
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
