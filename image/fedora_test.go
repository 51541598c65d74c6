package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestFedoraCoreOS(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	disk := testDisk("fedora", 0)
	p.fedora(t, "stable", "44.20260707.3.1", disk, key)
	s := p.store(t, key)
	for _, arch := range []string{"amd64", "arm64"} {
		var phases []string
		img, err := s.Ensure(t.Context(), Ref{Source: "fedora-coreos", Arch: arch}, func(p Progress) {
			if !slices.Contains(phases, p.Phase) {
				phases = append(phases, p.Phase)
			}
		})
		check(t, err)
		if img.Version != "44.20260707.3.1" || img.Ref.Stream != "stable" || img.Format != "qcow2" ||
			img.Firmware != nil || img.Guest.IgnitionMax != "3.6.0" || img.Guest.Home != "/var/home/core" {
			t.Errorf("got %+v", img)
		}
		if b, err := os.ReadFile(img.Path); err != nil || !bytes.Equal(b, disk) {
			t.Errorf("disk differs (%v)", err)
		}
		if want := []string{"resolving", "downloading", "verifying", "decompressing"}; !slices.Equal(phases, want) {
			t.Errorf("phases %q", phases)
		}
	}
}

// A version that is no longer the newest is proven by its signature alone.
func TestFedoraPinned(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	p.fedora(t, "testing", "43.20260101.2.0", testDisk("old", 0), key)
	p.fedora(t, "testing", "44.20260707.2.1", testDisk("new", 0), key)
	s := p.store(t, key)
	ref := Ref{Source: "fedora-coreos", Stream: "testing", Arch: "amd64", Version: "43.20260101.2.0"}
	img, err := s.Ensure(t.Context(), ref, nil)
	check(t, err)
	if img.Version != ref.Version || img.Guest.IgnitionMax != "3.4.0" {
		t.Errorf("got %+v", img)
	}

	p.put(fedoraURL("testing", "43.20260202.2.0", "x86_64"), compressXZ(t, testDisk("evil", 0)))
	p.put(fedoraURL("testing", "43.20260202.2.0", "x86_64")+".sig", key.sign([]byte("something else")))
	ref.Version = "43.20260202.2.0"
	if _, err := s.Ensure(t.Context(), ref, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("got %v", err)
	}
	ref.Version = "43.20260303.2.0"
	_, err = s.Ensure(t.Context(), ref, nil)
	want := `image "fedora-coreos": no such image: version 43.20260303.2.0 in stream testing: ` +
		fedoraURL("testing", ref.Version, "x86_64") + ": server answered 404 Not Found"
	if !errors.Is(err, ErrUnknown) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFedoraWrongUnpacked(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	disk := testDisk("x", 0)
	p.fedora(t, "stable", "44.20260707.3.1", disk, key)
	url := "https://builds.coreos.fedoraproject.org/streams/stable.json"
	wrong := strings.Repeat("ab", 32)
	p.put(url, bytes.ReplaceAll(p.files[url].content, []byte(mustChecksum(t, disk).Hex), []byte(wrong)))
	s := p.store(t, key)
	_, err := s.Ensure(t.Context(), Ref{Source: "fedora-coreos", Arch: "amd64"}, nil)
	if !errors.Is(err, ErrChecksum) || !strings.HasSuffix(err.Error(), "(decompressed): checksum mismatch: want sha256:"+wrong+", got "+sumString(disk)) {
		t.Errorf("got %v", err)
	}
	assertEmpty(t, s)
}

func TestParseStream(t *testing.T) {
	t.Parallel()
	const valid = `{"stream": "stable", "architectures": {"x86_64": {"artifacts": {"qemu": {"release": "44.20260707.3.1", "formats":
		{"qcow2.xz": {"disk": {"location": "https://h/f.qcow2.xz", "signature": "https://h/f.qcow2.xz.sig", "sha256": "%064d", "uncompressed-sha256": "%064d"}}}}}}}}`
	publisher := Catalog()[2].Publisher.(FedoraCoreOS)
	whole := fmt.Sprintf(valid, 1, 2)
	for _, test := range []struct{ name, in, arch, want string }{
		{"valid", whole, "x86_64", "<nil>"},
		{"other architecture", whole, "aarch64", "it has no qemu image for aarch64 as qcow2.xz"},
		{"no JSON", "<html>", "x86_64", "invalid character '<' looking for beginning of value"},
		{"empty", "{}", "x86_64", "it has no qemu image for x86_64 as qcow2.xz"},
		{"bad version", strings.Replace(whole, "44.20260707.3.1", "../x", 1), "x86_64", `release is "../x", not a version`},
		{"plain http", strings.Replace(whole, "https://h/f.qcow2.xz.sig", "http://h/f", 1), "x86_64", `location "http://h/f" is no https URL`},
		{"bad digest", strings.Replace(whole, fmt.Sprintf("%064d", 1), "12", 1), "x86_64", `checksum "sha256:12": want 64 hexadecimal digits`},
	} {
		_, err := publisher.parseStream([]byte(test.in), test.arch)
		if fmt.Sprint(err) != test.want {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
}
