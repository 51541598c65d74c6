package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/hint"
)

const stableImage = "https://stable.release.flatcar-linux.net/amd64-usr/4593.2.5/flatcar_production_qemu_uefi_image.img"

func TestFlatcar(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	disk := testDisk("flatcar", 1<<20)
	p.flatcar("stable", "current", "4593.2.5", disk, key)
	s := p.store(t, key)

	var phases []string
	img, err := s.Ensure(t.Context(), Ref{Source: "flatcar", Arch: "amd64"}, func(p Progress) {
		if !slices.Contains(phases, p.Phase) {
			phases = append(phases, p.Phase)
		}
	})
	check(t, err)
	want := &Image{
		Ref:     Ref{Source: "flatcar", Channel: "stable", Arch: "amd64"},
		Version: "4593.2.5",
		Arch:    "amd64",
		Path:    filepath.Join(s.Dir(), "flatcar", "stable", "amd64", "4593.2.5", "disk.qcow2"),
		Format:  "qcow2",
		Size:    10 << 30,
		Guest:   Catalog()[1].Guest,
	}
	if diff := cmp.Diff(want, img); diff != "" {
		t.Errorf("image differs (-want +got):\n%s", diff)
	}
	if got, err := os.ReadFile(img.Path); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("disk has other content than was published (%v)", err)
	}
	if want := []string{"resolving", "downloading", "verifying"}; !slices.Equal(phases, want) {
		t.Errorf("phases %q, want %q", phases, want)
	}
	rec, err := s.readRecord("flatcar/stable/amd64/4593.2.5")
	if err != nil || rec.SignedBy != fingerprint(key.entity) {
		t.Errorf("record says signed by %q (%v)", rec.SignedBy, err)
	}

	// From here on there is no network.
	p.requests("")
	again, err := s.Ensure(t.Context(), Ref{Source: "flatcar", Channel: "stable", Arch: "amd64"}, nil)
	check(t, err)
	if again.Path != img.Path {
		t.Errorf("second call gave %s", again.Path)
	}
	if n := p.requests(""); len(n) > 0 {
		t.Errorf("a cached image caused requests: %q", n)
	}
}

func TestFlatcarPullFollowsTheChannel(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	s := p.store(t, key)
	ref := Ref{Source: "flatcar", Channel: "beta", Arch: "amd64"}

	p.flatcar("beta", "current", "4757.1.0", testDisk("one", 0), key)
	_, err := s.Ensure(t.Context(), ref, nil)
	check(t, err)
	p.flatcar("beta", "current", "4757.1.1", testDisk("two", 0), key)

	img, err := s.Ensure(t.Context(), ref, nil)
	check(t, err)
	if img.Version != "4757.1.0" {
		t.Errorf("Ensure went on to %s by itself", img.Version)
	}
	img, err = s.Pull(t.Context(), ref, nil)
	check(t, err)
	if img.Version != "4757.1.1" {
		t.Errorf("Pull gave %s", img.Version)
	}
	img, err = s.Lookup(t.Context(), ref)
	check(t, err)
	if img.Version != "4757.1.1" {
		t.Errorf("Lookup after Pull gave %s", img.Version)
	}

	// A pinned version is found, fetched without asking for the newest, and
	// does not become the current one.
	p.requests("")
	pinned := ref
	pinned.Version = "4757.1.0"
	if img, err = s.Lookup(t.Context(), pinned); err != nil || img.Version != "4757.1.0" {
		t.Errorf("Lookup of the pinned version gave %v, %v", img, err)
	}
	p.flatcar("beta", "current", "4700.1.0", testDisk("three", 0), key)
	pinned.Version = "4700.1.0"
	_, err = s.Ensure(t.Context(), pinned, nil)
	check(t, err)
	if n := p.requests("version.txt"); len(n) != 0 {
		t.Errorf("a pinned version caused %q", n)
	}
	if img, err = s.Lookup(t.Context(), ref); err != nil || img.Version != "4757.1.1" {
		t.Errorf("after a pinned download the current version is %v, %v", img, err)
	}
}

func TestFlatcarFirmware(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ channel, current, version, suffix, format, spec string }{
		{"stable", "current", "4593.2.5", ".qcow2", "qcow2", "3.5.0"},
		{"lts", "current-2024", "4081.3.10", ".fd", "raw", "3.4.0"},
		{"lts", "current-2024", "3510.3.8", ".fd", "raw", "3.3.0"},
	} {
		t.Run(test.version, func(t *testing.T) {
			t.Parallel()
			p, key := newPublishers(t), newSigner(t)
			p.flatcar(test.channel, test.current, test.version, testDisk("x", 0), key)
			s := p.store(t, key)
			img, err := s.Ensure(t.Context(), Ref{Source: "flatcar", Channel: test.channel, Arch: "arm64"}, nil)
			check(t, err)
			dir := filepath.Dir(img.Path)
			want := &Firmware{
				Code:   filepath.Join(dir, "efi_code"+test.suffix),
				Vars:   filepath.Join(dir, "efi_vars"+test.suffix),
				Format: test.format,
			}
			if diff := cmp.Diff(want, img.Firmware); diff != "" {
				t.Errorf("firmware differs (-want +got):\n%s", diff)
			}
			if b, err := os.ReadFile(img.Firmware.Code); err != nil || string(b) != "code" {
				t.Errorf("code is %q, %v", b, err)
			}
			if img.Guest.IgnitionMax != test.spec {
				t.Errorf("IgnitionMax is %s, want %s", img.Guest.IgnitionMax, test.spec)
			}
		})
	}
}

// Firmware is signed like the disk.
func TestFlatcarForeignFirmware(t *testing.T) {
	t.Parallel()
	p, key, foreign := newPublishers(t), newSigner(t), newSigner(t)
	p.flatcar("stable", "current", "4593.2.5", testDisk("x", 0), key)
	code := "https://stable.release.flatcar-linux.net/arm64-usr/4593.2.5/flatcar_production_qemu_uefi_efi_code.qcow2"
	p.signed(code, []byte("evil"), foreign)
	_, err := p.store(t, key).Ensure(t.Context(), Ref{Source: "flatcar", Arch: "arm64"}, nil)
	if !errors.Is(err, ErrSignature) {
		t.Errorf("got %v", err)
	}
}

// Releases before 3602 have the disk only as .bz2.
func TestFlatcarPacked(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	p.flatcar("lts", "current-2024", "3510.3.1", nil, key)
	image := "https://lts.release.flatcar-linux.net/amd64-usr/3510.3.1/flatcar_production_qemu_uefi_image.img"
	p.remove(image + ".DIGESTS")
	packed, err := os.ReadFile(filepath.Join("testdata", "disk.qcow2.bz2"))
	check(t, err)
	p.signed(image+".bz2", packed, key)
	img, err := p.store(t, key).Ensure(t.Context(), Ref{Source: "flatcar", Channel: "lts", Version: "3510.3.1", Arch: "amd64"}, nil)
	check(t, err)
	if img.Format != "qcow2" || img.Size != 10<<30 {
		t.Errorf("got %s of %d bytes", img.Format, img.Size)
	}
}

// A server that offers an older release as the newest is not followed, unless
// the user says so.
func TestPullDoesNotGoBack(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	s := p.store(t, key)
	ref := Ref{Source: "flatcar", Arch: "amd64"}
	p.flatcar("stable", "current", "4593.2.10", testDisk("new", 0), key)
	_, err := s.Pull(t.Context(), ref, nil)
	check(t, err)
	p.flatcar("stable", "current", "4593.2.9", testDisk("old", 0), key)
	_, err = s.Pull(t.Context(), ref, nil)
	const want = `image "flatcar": channel stable now leads to version 4593.2.9, older than 4593.2.10 in the cache`
	const tip = `if the publisher took the newer one back, go back with version = "4593.2.9" in the image block, ` +
		"or hostctl image rm flatcar/stable/amd64/4593.2.10"
	if err == nil || err.Error() != want || hint.Of(err) != tip {
		t.Errorf("got %v\nhint %s\nwant %s\nhint %s", err, hint.Of(err), want, tip)
	}
	if img, err := s.Lookup(t.Context(), ref); err != nil || img.Version != "4593.2.10" {
		t.Errorf("Lookup gives %v, %v", img, err)
	}
	ref.Version = "4593.2.9"
	_, err = s.Ensure(t.Context(), ref, nil)
	check(t, err)
	ref.Version = ""
	_, err = s.Remove(t.Context(), "flatcar/stable/amd64/4593.2.10", nobody)
	check(t, err)
	img, err := s.Pull(t.Context(), ref, nil)
	if err != nil || img.Version != "4593.2.9" {
		t.Errorf("after the removal: %v, %v", img, err)
	}
}

func TestOlder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"4593.2.9", "4593.2.10", true},
		{"4593.2.10", "4593.2.9", false},
		{"4593.2.9", "4593.2.9", false},
		{"44.20260707.3.1", "44.20260708.3.0", true},
		{"4593.2", "4593.2.1", true},
		{"a.1", "b.0", true},
	} {
		if got := older(c.a, c.b); got != c.want {
			t.Errorf("older(%s, %s) is %t", c.a, c.b, got)
		}
	}
}

// A missing file that is no release's says nothing of the version.
func TestMissingProofIsNoMissingVersion(t *testing.T) {
	t.Parallel()
	const version = "43.20260101.2.0"
	url := fedoraURL("testing", version, "x86_64")
	for name, gone := range map[string]string{
		"signature": url + ".sig",
		"keys":      fedoraKeyURL,
		"stream":    "https://builds.coreos.fedoraproject.org/streams/testing.json",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, key := newPublishers(t), newSigner(t)
			p.fedora(t, "testing", version, testDisk("old", 0), key)
			p.fedora(t, "testing", "44.20260707.2.1", testDisk("new", 0), key)
			p.remove(gone)
			_, err := p.store(t, key).Ensure(t.Context(), Ref{Source: "fedora-coreos", Stream: "testing", Arch: "amd64", Version: version}, nil)
			if err == nil || errors.Is(err, ErrUnknown) || !strings.HasSuffix(err.Error(), gone+": server answered 404 Not Found") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFlatcarErrors(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	p.flatcar("stable", "current", "4593.2.5", testDisk("x", 0), key)
	p.put("https://beta.release.flatcar-linux.net/amd64-usr/current/version.txt", []byte("<html>\n"))
	p.put("https://alpha.release.flatcar-linux.net/amd64-usr/current/version.txt", []byte("FLATCAR_VERSION=../../x\n"))
	s := p.store(t, key)
	for _, test := range []struct {
		name      string
		ref       Ref
		is        error
		want, tip string
	}{
		{"pinned version of another channel", Ref{Version: "4757.1.0"}, ErrUnknown,
			`image "flatcar": no such image: version 4757.1.0 in channel stable: https://stable.release.flatcar-linux.net/amd64-usr/4757.1.0/flatcar_production_qemu_uefi_image.img.bz2.DIGESTS: server answered 404 Not Found`,
			"each version belongs to one channel; leave version out for the newest"},
		{"no version", Ref{Version: "newest"}, ErrUnknown,
			`no such image: flatcar version "newest"`, "versions look like 4593.2.5"},
		{"a way out", Ref{Version: "../../x"}, ErrUnknown,
			`image "flatcar": no such image: version "../../x"`, ""},
		{"before Ignition 3", Ref{Version: "2983.2.0"}, ErrUnknown,
			"no such image: flatcar 2983.2.0 takes Ignition configs of spec 2 only", "choose version 3185.0.0 or newer"},
		{"version.txt is no such file", Ref{Channel: "beta"}, nil,
			"https://beta.release.flatcar-linux.net/amd64-usr/current/version.txt: no FLATCAR_VERSION in it", ""},
		{"version.txt leads elsewhere", Ref{Channel: "alpha"}, nil,
			`https://alpha.release.flatcar-linux.net/amd64-usr/current/version.txt: FLATCAR_VERSION is "../../x", not a version`, ""},
		{"channel", Ref{Channel: "edge"}, ErrUnknown,
			`image "flatcar": no such image: channel "edge"`, "known channels: stable, beta, alpha, lts"},
		{"stream", Ref{Stream: "next"}, ErrUnknown,
			`image "flatcar": no such image: it has no streams`, "it has channels: stable, beta, alpha, lts"},
		{"architecture", Ref{Arch: "riscv64"}, ErrUnknown,
			`image "flatcar": no such image: architecture "riscv64"`, "known architectures: amd64, arm64"},
		{"checksum", Ref{Checksum: "sha256:" + strings.Repeat("0", 64)}, nil,
			`image "flatcar": a checksum is for paths and URLs`, "this image is proven by other means; to stay with one release, set version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ref := test.ref
			ref.Source = "flatcar"
			if ref.Arch == "" {
				ref.Arch = "amd64"
			}
			_, err := s.Ensure(t.Context(), ref, nil)
			if err == nil || err.Error() != test.want || hint.Of(err) != test.tip {
				t.Errorf("got %v\nhint %s\nwant %s\nhint %s", err, hint.Of(err), test.want, test.tip)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
		})
	}
}

// What a guest accepts is known before there is an image.
func TestGuest(t *testing.T) {
	t.Parallel()
	s := localStore(t)
	for _, test := range []struct {
		ref  Ref
		want string
	}{
		{Ref{Source: "flatcar", Arch: "amd64"}, "3.5.0"},
		{Ref{Source: "flatcar", Arch: "amd64", Channel: "lts"}, "3.4.0"},
		{Ref{Source: "flatcar", Arch: "amd64", Channel: "lts", Version: "3510.3.8"}, "3.3.0"},
		{Ref{Source: "fedora-coreos", Arch: "amd64"}, "3.6.0"},
		{Ref{Source: "/x.img", Family: "flatcar"}, "3.5.0"},
		{Ref{Source: "/x.img", Family: "flatcar", Version: "3510.3.8"}, "3.3.0"},
		{Ref{Source: testURL, Family: "flatcar", Checksum: "sha256:" + strings.Repeat("9", 64)}, "3.5.0"},
		{Ref{Source: "dockerhost"}, "3.3.0"},
	} {
		g, err := s.Guest(t.Context(), test.ref)
		if err != nil || g.IgnitionMax != test.want {
			t.Errorf("%+v: got %s, %v, want %s", test.ref, g.IgnitionMax, err, test.want)
		}
	}
}

func TestParseVersionFile(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"FLATCAR_BUILD=4593\nFLATCAR_VERSION=4593.2.5\n":         "4593.2.5",
		"FLATCAR_VERSION=\"4593.2.5\"\r\nFLATCAR_NEW=x":          "4593.2.5",
		"FLATCAR_VERSION_ID=1.2.3\n  FLATCAR_VERSION='4593.2.5'": "4593.2.5",
	} {
		got, err := parseVersionFile([]byte(in))
		if err != nil || got != want {
			t.Errorf("%q gave %q, %v", in, got, err)
		}
	}
}

func TestParseDigests(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("ab", 64)
	tests := []struct{ name, in, err string }{
		{"as published", "# MD5 HASH\n00  f\n# SHA1 HASH\n11  f\n# SHA512 HASH\n" + sum + "  f\n", ""},
		{"SHA512 alone", "# SHA512 HASH\n" + sum + "  f", ""},
		{"unknown sections", "# BLAKE2B HASH\n" + strings.Repeat("cd", 64) + "  f\n# SHA512 HASH\n" + sum + " *f\n", ""},
		{"other file", "# SHA512 HASH\n" + sum + "  g\n", "no SHA512 of f in it"},
		{"other section", "# SHA256 HASH\n" + sum + "  f\n", "no SHA512 of f in it"},
		{"short", "# SHA512 HASH\nabcd  f\n", `checksum "sha512:abcd": want 128 hexadecimal digits`},
		{"empty", "", "no SHA512 of f in it"},
	}
	for _, test := range tests {
		got, err := parseDigests([]byte(test.in), "f")
		if test.err == "" && (err != nil || got != Checksum{"sha512", sum}) || test.err != "" && fmt.Sprint(err) != test.err {
			t.Errorf("%s: got %v, %v", test.name, got, err)
		}
	}
}

// A state that was written before guests had a number of their user has the
// family's.
func TestUserID(t *testing.T) {
	t.Parallel()
	for _, e := range Catalog() {
		if old := (Guest{Family: e.Guest.Family}); e.Guest.UID == 0 || old.UserID() != e.Guest.UID {
			t.Errorf("%s: %d, and by its family %d", e.Name, e.Guest.UID, old.UserID())
		}
	}
	if got := (Guest{Family: "flatcar", UID: 1234}).UserID(); got != 1234 {
		t.Errorf("%d", got)
	}
}
