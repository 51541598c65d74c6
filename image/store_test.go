package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/hostctl/hostctl/internal/hint"
)

// localStore is a store that has nobody to ask.
func localStore(t testing.TB) *Store {
	t.Helper()
	dir := t.TempDir()
	return NewStore(Config{Dir: filepath.Join(dir, "images"), KeysDir: filepath.Join(dir, "keys")})
}

// publishLocal does what scripts/build-image does.
func publishLocal(t testing.TB, s *Store, version string, disk []byte) string {
	t.Helper()
	dir := s.folder("dockerhost/" + version)
	path := filepath.Join(dir, "disk.qcow2")
	check(t, os.MkdirAll(dir, 0o755))
	check(t, os.WriteFile(path, disk, 0o644))
	sum := mustChecksum(t, disk)
	check(t, os.WriteFile(path+".sha256", []byte(sum.Hex+"  disk.qcow2\n"), 0o644))
	check(t, os.WriteFile(s.folder("dockerhost/current"), []byte(version+"\n"), 0o644))
	return path
}

func TestDockerhost(t *testing.T) {
	t.Parallel()
	s := localStore(t)
	_, err := s.Ensure(t.Context(), Ref{Source: "dockerhost"}, nil)
	if want := "image dockerhost: not in the image cache in " + s.Dir(); !errors.Is(err, ErrNotCached) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if want := "build it: make image, in a clone of hostctl's repository (each user has a cache of his own)"; hint.Of(err) != want {
		t.Errorf("hint %q", hint.Of(err))
	}

	path := publishLocal(t, s, "1a2b3c", testDisk("one", 0))
	img, err := s.Ensure(t.Context(), Ref{Source: "dockerhost"}, nil)
	check(t, err)
	want := &Image{
		Ref:     Ref{Source: "dockerhost", Arch: runtime.GOARCH},
		Version: "1a2b3c",
		Arch:    runtime.GOARCH,
		Path:    path,
		Format:  "qcow2",
		Size:    10 << 30,
		Guest:   Catalog()[0].Guest,
	}
	if diff := cmp.Diff(want, img); diff != "" {
		t.Errorf("image differs (-want +got):\n%s", diff)
	}

	publishLocal(t, s, "4d5e6f", testDisk("two", 0))
	img, err = s.Lookup(t.Context(), Ref{Source: "dockerhost"})
	if err != nil || img.Version != "4d5e6f" {
		t.Errorf("current is %v, %v", img, err)
	}
	img, err = s.Lookup(t.Context(), Ref{Source: "dockerhost", Version: "1a2b3c"})
	if err != nil || img.Path != path {
		t.Errorf("pinned is %v, %v", img, err)
	}
}

func TestDockerhostDamaged(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, path string)
		is     error
		want   string // of the error, after the path
	}{
		{"truncated", func(t *testing.T, path string) { check(t, os.Truncate(path, 1000)) },
			ErrTruncated, ": truncated: 1000 of 196768 bytes"},
		{"cut off behind the tables", func(t *testing.T, path string) { check(t, os.Truncate(path, 200_000)) },
			ErrChecksum, ": checksum mismatch: want "},
		{"empty", func(t *testing.T, path string) { check(t, os.Truncate(path, 0)) },
			ErrFormat, ": not a usable disk image: file is empty"},
		{"a byte changed", func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			check(t, err)
			_, err = f.WriteAt([]byte{0}, 200_000)
			check(t, errors.Join(err, f.Close(), os.Chtimes(path, time.Time{}, time.Now().Add(time.Minute))))
		}, ErrChecksum, ": checksum mismatch: want "},
		{"gone", func(t *testing.T, path string) { check(t, os.Remove(path)) },
			fs.ErrNotExist, ": no such file or directory"},
		{"checksum file is empty", func(t *testing.T, path string) { check(t, os.WriteFile(path+".sha256", nil, 0o644)) },
			nil, "disk.qcow2.sha256: no checksum of disk.qcow2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := localStore(t)
			path := publishLocal(t, s, "1a2b3c", testDisk("one", 0))
			_, err := s.Lookup(t.Context(), Ref{Source: "dockerhost"})
			check(t, err)
			test.damage(t, path)
			_, err = s.Ensure(t.Context(), Ref{Source: "dockerhost"}, nil)
			var damaged *DamagedError
			if !errors.As(err, &damaged) || test.is != nil && !errors.Is(err, test.is) {
				t.Fatalf("got %v", err)
			}
			got := strings.Replace(err.Error(), "open ", "", 1)
			if !strings.HasPrefix(got, "image dockerhost/1a2b3c is damaged: ") || !strings.Contains(got, test.want) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if want := "remove it with hostctl image rm dockerhost/1a2b3c, then build it again with make image"; hint.Of(err) != want {
				t.Errorf("hint %q", hint.Of(err))
			}
		})
	}
}

// A second look reads the header, not the disk.
func TestLookupIsFast(t *testing.T) {
	t.Parallel()
	s := localStore(t)
	publishLocal(t, s, "1a2b3c", testDisk("one", 4<<20))
	_, err := s.Lookup(t.Context(), Ref{Source: "dockerhost"})
	check(t, err)
	img, err := s.lookup(t.Context(), Ref{Source: "dockerhost"}, func(p Progress) {
		t.Errorf("progress %+v: the disk was read again", p)
	})
	check(t, err)

	// So is one that was written to and given its time back, where the system
	// tells.
	info, err := os.Stat(img.Path)
	check(t, err)
	if changeOf(info) != "" {
		check(t, os.Chtimes(img.Path, time.Time{}, info.ModTime()))
		read := false
		_, err = s.lookup(t.Context(), Ref{Source: "dockerhost"}, func(Progress) { read = true })
		check(t, err)
		if !read {
			t.Error("a file that was changed was not read again")
		}
	}

	// A copy of the cache, whose times differ, is read once more.
	check(t, os.Chtimes(img.Path, time.Time{}, time.Now().Add(time.Hour)))
	read := 0
	for range 2 {
		_, err = s.lookup(t.Context(), Ref{Source: "dockerhost"}, func(p Progress) {
			if p.Done == p.Total {
				read++
			}
		})
		check(t, err)
	}
	if read != 1 {
		t.Errorf("the disk was read %d times", read)
	}
}

// A record without a checksum would accept any disk.
func TestRecordWithoutChecksum(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	p.flatcar("stable", "current", "4593.2.5", testDisk("x", 0), key)
	s := p.store(t, key)
	ref := Ref{Source: "flatcar", Arch: "amd64"}
	img, err := s.Ensure(t.Context(), ref, nil)
	check(t, err)
	file := filepath.Join(filepath.Dir(img.Path), recordFile)
	b, err := os.ReadFile(file)
	check(t, err)
	b = regexp.MustCompile(`"checksum": "[^"]*"`).ReplaceAll(b, []byte(`"checksum": ""`))
	check(t, os.WriteFile(file, b, 0o644))
	_, err = s.Lookup(t.Context(), ref)
	const want = "image flatcar/stable/amd64/4593.2.5 is damaged: image.json: no checksum of disk.qcow2"
	if _, ok := errors.AsType[*DamagedError](err); !ok || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = s.Ensure(t.Context(), ref, nil) // gets it again
	check(t, err)
}

// A machine was made while the user was being asked.
func TestRemoveAsksAgain(t *testing.T) {
	t.Parallel()
	s := localStore(t)
	publishLocal(t, s, "1a2b3c", testDisk("one", 0))
	later := func() Users {
		asked := 0
		return func() (func(string) bool, error) {
			asked++
			return func(string) bool { return asked > 1 }, nil
		}
	}
	if _, err := s.Remove(t.Context(), "dockerhost", later()); !errors.Is(err, ErrInUse) {
		t.Errorf("Remove gave %v", err)
	}
	pruned, err := s.Prune(t.Context(), later())
	if err != nil || len(pruned.Images) != 0 {
		t.Errorf("Prune removed %v, %v", pruned.Images, err)
	}
	_, err = s.Lookup(t.Context(), Ref{Source: "dockerhost"})
	check(t, err)
}

// What was downloaded and is damaged now is got again.
func TestDamagedDownloadIsRepaired(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	disk := testDisk("x", 1<<20)
	p.flatcar("stable", "current", "4593.2.5", disk, key)
	s := p.store(t, key)
	ref := Ref{Source: "flatcar", Arch: "amd64"}
	img, err := s.Ensure(t.Context(), ref, nil)
	check(t, err)
	p.flatcar("stable", "current", "4593.2.6", testDisk("newer", 0), key)
	check(t, os.Chmod(img.Path, 0o644))
	check(t, os.Truncate(img.Path, int64(len(disk)-1)))
	if _, err := s.Lookup(t.Context(), ref); !errors.Is(err, ErrTruncated) {
		t.Errorf("Lookup gave %v", err)
	}
	img, err = s.Ensure(t.Context(), ref, nil)
	check(t, err)
	if b, err := os.ReadFile(img.Path); err != nil || !bytes.Equal(b, disk) || img.Version != "4593.2.5" {
		t.Errorf("version %s is not what it was (%v)", img.Version, err)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	s := localStore(t)
	dir := t.TempDir()
	qcow2 := testDisk("file", 0)
	raw := make([]byte, 1<<20)
	raw[510], raw[511] = 0x55, 0xaa
	var gz, zst bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := w.Write(raw)
	check(t, errors.Join(err, w.Close()))
	z, err := zstd.NewWriter(&zst)
	check(t, err)
	_, err = z.Write(qcow2)
	check(t, errors.Join(err, z.Close()))
	bz2, err := os.ReadFile(filepath.Join("testdata", "disk.qcow2.bz2"))
	check(t, err)
	for _, test := range []struct {
		name     string
		content  []byte
		checksum string
		format   string
		want     string // of the error, after the path
		is       error
	}{
		{"plain.qcow2", qcow2, "", "qcow2", "", nil},
		{"plain.img", raw, sumString(raw), "raw", "", nil},
		{"packed.qcow2.xz", compressXZ(t, qcow2), "", "qcow2", "", nil},
		{"packed.img.gz", gz.Bytes(), sumString(gz.Bytes()), "raw", "", nil},
		{"packed.zst", zst.Bytes(), "", "qcow2", "", nil},
		{"packed.bz2", bz2, "", "qcow2", "", nil},
		{"misnamed.xz", qcow2, "", "qcow2", "", nil},
		{"wrong.qcow2", qcow2, sumString(raw), "", ": checksum mismatch: want " + sumString(raw) + ", got " + sumString(qcow2), ErrChecksum},
		{"wrong.xz", compressXZ(t, qcow2), sumString(raw), "", ": checksum mismatch: want " + sumString(raw) + ", got " + sumString(compressXZ(t, qcow2)), ErrChecksum},
		{"short.xz", compressXZ(t, qcow2)[:1000], "", "", ": truncated: its xz stream has no end", ErrTruncated},
		{"short.gz", gz.Bytes()[:500], "", "", ": truncated: its gzip stream has no end", ErrTruncated},
		{"text.qcow2", []byte("hello\n"), "", "", ": not a usable disk image: neither qcow2 nor a raw disk with a boot sector", ErrFormat},
		{"odd.img", raw[:1000], "", "", ": not a usable disk image: raw disk of 1000 bytes ends within a sector", ErrFormat},
		{"disk.vmdk", []byte("KDMV\x01"), "", "", ": not a usable disk image: VMDK is not supported, only qcow2 and raw", ErrFormat},
		{"empty.img", nil, "", "", ": not a usable disk image: file is empty", ErrFormat},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(dir, test.name)
			check(t, os.WriteFile(path, test.content, 0o644))
			ref := Ref{Source: path, Family: "flatcar", Checksum: test.checksum}
			img, err := s.Ensure(t.Context(), ref, nil)
			if test.want != "" {
				if err == nil || err.Error() != path+test.want || !errors.Is(err, test.is) {
					t.Errorf("got  %v\nwant %s%s", err, path, test.want)
				}
				return
			}
			check(t, err)
			if img.Format != test.format || img.Guest.Family != "flatcar" {
				t.Errorf("got format %s, family %s", img.Format, img.Guest.Family)
			}
			if inPlace := img.Path == path; inPlace != !strings.HasPrefix(test.name, "packed") {
				t.Errorf("the disk is %s", img.Path)
			}
			if b, err := os.ReadFile(img.Path); err != nil || test.format == "raw" && !bytes.Equal(b, raw) {
				t.Errorf("content differs (%v)", err)
			}
			again, err := s.Lookup(t.Context(), ref)
			if err != nil || again.Path != img.Path {
				t.Errorf("second time: %v, %v", again, err)
			}
		})
	}
}

func TestRefErrors(t *testing.T) {
	t.Parallel()
	s := localStore(t)
	for _, test := range []struct {
		ref       Ref
		want, tip string
	}{
		{Ref{Source: "flatcat"}, `image "flatcat": no such image`, `did you mean "flatcar"?`},
		{Ref{Source: "windows"}, `image "windows": no such image`,
			"known images: dockerhost, flatcar, fedora-coreos; or give a path, or an https URL with a checksum"},
		{Ref{Source: "../x"}, `image "../x": no such image`,
			"known images: dockerhost, flatcar, fedora-coreos; or give a path, or an https URL with a checksum"},
		{Ref{Source: "/x.img"}, `image "/x.img": its family is not known`,
			"say what runs in it: family = one of dockerhost, flatcar, fedora-coreos"},
		{Ref{Source: "/x.img", Family: "debian"}, `image "/x.img": family "debian" is unknown`,
			"say what runs in it: family = one of dockerhost, flatcar, fedora-coreos"},
		{Ref{Source: "/x.img", Family: "flatcar", Checksum: "md5:00"}, `image "/x.img": checksum "md5:00": want sha256:HEX or sha512:HEX`, ""},
		{Ref{Source: "https://example.test/x"}, `image "https://example.test/x": a URL needs a checksum`,
			`add checksum = "sha256:..." to the image block`},
		{Ref{Source: "HTTPS://example.test/x"}, `image "HTTPS://example.test/x": a URL needs a checksum`,
			`add checksum = "sha256:..." to the image block`},
		{Ref{Source: "http://example.test/x"}, `image "http://example.test/x": only https URLs are fetched`, ""},
		{Ref{Source: "dockerhost", Channel: "beta"}, `image "dockerhost": no such image: it has no channels`, ""},
		{Ref{Source: "dockerhost", Arch: "mips"}, `image "dockerhost": no such image: it is built for this host's architecture, ` + runtime.GOARCH + `, not mips`, ""},
		{Ref{Source: "fedora-coreos", Channel: "beta"}, `image "fedora-coreos": no such image: it has no channels`, "it has streams: stable, testing, next"},
	} {
		_, err := s.Ensure(t.Context(), test.ref, nil)
		if err == nil || err.Error() != test.want || hint.Of(err) != test.tip {
			t.Errorf("%+v:\ngot  %v\nhint %s\nwant %s\nhint %s", test.ref, err, hint.Of(err), test.want, test.tip)
		}
	}
	missing := filepath.Join(t.TempDir(), "x.img")
	if _, err := s.Ensure(t.Context(), Ref{Source: missing, Family: "flatcar"}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gave %v", err)
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	s := localStore(t)
	path := filepath.Join(t.TempDir(), "base.qcow2.xz")
	check(t, os.WriteFile(path, compressXZ(t, testDisk("one", 0)), 0o644))
	img, err := s.Import(t.Context(), "our-base", path, ImportOptions{Family: "fedora-coreos"}, nil)
	check(t, err)
	if img.Guest.Family != "fedora-coreos" || img.Format != "qcow2" || !strings.HasPrefix(img.Path, s.Dir()) {
		t.Errorf("got %+v", img)
	}
	found, err := s.Ensure(t.Context(), Ref{Source: "our-base"}, nil)
	check(t, err)
	if diff := cmp.Diff(img, found); diff != "" {
		t.Errorf("found differs from imported:\n%s", diff)
	}

	check(t, os.WriteFile(path, testDisk("two", 0), 0o644))
	second, err := s.Import(t.Context(), "our-base", path, ImportOptions{Family: "fedora-coreos"}, nil)
	check(t, err)
	check(t, os.Remove(path))
	if found, err = s.Ensure(t.Context(), Ref{Source: "our-base"}, nil); err != nil || found.Path != second.Path || found.Path == img.Path {
		t.Errorf("after a second import: %+v, %v", found, err)
	}
	if _, err := os.Stat(img.Path); err != nil {
		t.Errorf("the first import's disk is gone: %v", err)
	}

	if _, err := s.Ensure(t.Context(), Ref{Source: "our-base", Version: "../other/" + second.Version}, nil); err == nil ||
		err.Error() != `image "our-base": no such image: version "../other/`+second.Version+`"` {
		t.Errorf("a version that leads elsewhere: %v", err)
	}

	for name, want := range map[string]string{
		"flatcar":  `image name "flatcar" belongs to the catalog`,
		"Our Base": `image name "Our Base" is not usable`,
		"../x":     `image name "../x" is not usable`,
	} {
		if _, err := s.Import(t.Context(), name, path, ImportOptions{Family: "flatcar"}, nil); err == nil || err.Error() != want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// nobody uses any image.
func nobody() (func(string) bool, error) { return func(string) bool { return false }, nil }

// only one file is used.
func only(file string) Users {
	return func() (func(string) bool, error) { return func(path string) bool { return path == file }, nil }
}

func TestListRemovePrune(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	p.flatcar("stable", "current", "4593.2.5", testDisk("a", 0), key)
	p.flatcar("beta", "current", "4757.1.0", testDisk("b", 0), key)
	p.fedora(t, "next", "44.20260707.1.1", testDisk("c", 0), key)
	s := p.store(t, key)
	if all, err := s.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("a cache that does not exist lists %v, %v", all, err)
	}
	var stable, firmware *Image
	for _, ref := range []Ref{
		{Source: "flatcar", Arch: "amd64"},
		{Source: "flatcar", Arch: "arm64", Channel: "beta"},
		{Source: "fedora-coreos", Arch: "amd64", Stream: "next"},
	} {
		img, err := s.Ensure(t.Context(), ref, nil)
		check(t, err)
		if stable == nil {
			stable = img
		}
		if img.Firmware != nil {
			firmware = img
		}
	}
	publishLocal(t, s, "1a2b3c", testDisk("d", 0))
	ids := func() []string {
		all, err := s.List(t.Context())
		check(t, err)
		var ids []string
		for _, c := range all {
			if !c.Current || c.Bytes == 0 || c.Path == "" || c.Family == "" {
				t.Errorf("listed as %+v", c)
			}
			ids = append(ids, c.ID)
		}
		return ids
	}
	if got, want := ids(), []string{"dockerhost/1a2b3c", "fedora-coreos/next/amd64/44.20260707.1.1",
		"flatcar/beta/arm64/4757.1.0", "flatcar/stable/amd64/4593.2.5"}; !slices.Equal(got, want) {
		t.Errorf("list %q, want %q", got, want)
	}

	_, err := s.Remove(t.Context(), "flatcar", only(stable.Path))
	if want := "image flatcar/stable/amd64/4593.2.5 is in use"; !errors.Is(err, ErrInUse) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := s.Remove(t.Context(), "flat", nobody); !errors.Is(err, ErrNotCached) {
		t.Errorf("half a name gave %v", err)
	}
	removed, err := s.Remove(t.Context(), "fedora-coreos/next", nobody)
	if err != nil || len(removed) != 1 || removed[0].ID != "fedora-coreos/next/amd64/44.20260707.1.1" {
		t.Errorf("removed %v, %v", removed, err)
	}
	if s.exists("fedora-coreos") {
		t.Error("empty folders were left")
	}
	if _, err := s.Lookup(t.Context(), Ref{Source: "fedora-coreos", Arch: "amd64", Stream: "next"}); !errors.Is(err, ErrNotCached) {
		t.Errorf("after removal Lookup gave %v", err)
	}

	// What is under way stays, what was left behind goes.
	check(t, os.MkdirAll(filepath.Join(s.dir, partialDir, "left"), 0o755))
	check(t, os.WriteFile(filepath.Join(s.dir, partialDir, "left", "download-x"), make([]byte, 1000), 0o644))
	check(t, os.MkdirAll(filepath.Join(s.dir, partialDir, "busy"), 0o755))
	unlock, err := s.lock(t.Context(), filepath.Join(s.dir, partialDir, "busy"), nil)
	check(t, err)
	defer unlock()
	// A machine may be based on the firmware alone: it was overlaid first.
	pruned, err := s.Prune(t.Context(), only(firmware.Firmware.Code))
	check(t, err)
	if got, want := ids(), []string{"flatcar/beta/arm64/4757.1.0"}; !slices.Equal(got, want) {
		t.Errorf("after prune: %q, want %q", got, want)
	}
	if len(pruned.Images) != 2 || pruned.Bytes < 1000 {
		t.Errorf("pruned %+v", pruned)
	}
	for name, want := range map[string]bool{"left": false, "busy": true} {
		if got := s.exists(partialDir + "/" + name); got != want {
			t.Errorf("%s exists: %v", name, got)
		}
	}
}

func TestDefaultDirs(t *testing.T) {
	t.Parallel()
	if want := filepath.Join("hostctl", "images"); !strings.HasSuffix(DefaultDir(), want) || !filepath.IsAbs(DefaultDir()) {
		t.Errorf("DefaultDir is %s", DefaultDir())
	}
	s := NewStore(Config{})
	if s.Dir() != DefaultDir() || s.keysDir != DefaultKeysDir() {
		t.Errorf("the zero Config uses %s and %s", s.Dir(), s.keysDir)
	}
}
