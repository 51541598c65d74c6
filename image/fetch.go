package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2/maybe"
	"github.com/shirou/gopsutil/v4/disk"

	"github.com/hostctl/hostctl/internal/hint"
)

// release is one published version: what to download and how to prove it.
type release struct {
	version    string
	disk       artifact
	code, vars artifact // firmware; zero when the image brings none
}

// artifact is one file of a release.
type artifact struct {
	name      string // in the image's folder; the disk's follows from its format
	url       string
	checksum  Checksum // of the download; zero: only the signature proves it
	signature string   // URL of the detached signature; "": the checksum alone proves it
	unpacked  Checksum // of the decompressed file; zero: unknown
}

// obtain gets what open did not find.
func (s *Store) obtain(ctx context.Context, src *source, report func(Progress)) (*Image, error) {
	if src.path != "" {
		return s.unpackFile(ctx, src, report)
	}
	follow := src.version == "" && src.entry != nil
	r := &release{version: src.version, disk: artifact{url: src.ref.Source, checksum: src.checksum}}
	if src.entry != nil {
		newMeter(report, "resolving", 0)
		var err error
		r, err = src.entry.Publisher.release(ctx, s.web.get, src.track, src.entry.Arches[src.ref.Arch], src.version)
		if err != nil && !isNotFound(err, src.track.URL) {
			err = src.unpublished(err)
		}
		if err == nil && follow {
			err = s.checkNewer(src, r.version)
		}
		if err != nil {
			return nil, err
		}
	}
	img, err := s.build(ctx, src, r.version, report, func(w *workshop) error {
		return s.download(ctx, src, r, w, report)
	})
	if err == nil && follow {
		err = s.setCurrent(src.series, r.version)
	}
	if isNotFound(err, r.disk.url) { // not its signature's, nor the keys'
		err = src.unpublished(err)
	}
	if err != nil {
		return nil, err
	}
	return img, nil
}

// checkNewer refuses to follow a series backwards: whoever offers an old
// release, well signed, may want its known holes back.
func (s *Store) checkNewer(src *source, version string) error {
	current, err := s.current(src.series)
	if err != nil || current == "" || !older(version, current) {
		return err
	}
	return hint.Wrap(fmt.Errorf("image %q: %s %s now leads to version %s, older than %s in the cache",
		src.entry.Name, src.entry.TrackKind, src.track.Name, version, current),
		"if the publisher took the newer one back, go back with version = %q in the image block, or hostctl image rm %s/%s",
		version, src.series, current)
}

// older compares versions of numbers with dots between.
func older(a, b string) bool {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(x, y string) int {
		m, err1 := strconv.Atoi(x)
		n, err2 := strconv.Atoi(y)
		if err1 != nil || err2 != nil {
			return strings.Compare(x, y)
		}
		return cmp.Compare(m, n)
	}) < 0
}

// unpublished says what a 404 means for a pinned version.
func (src *source) unpublished(err error) error {
	if src.entry == nil || src.version == "" || !isNotFound(err, "") {
		return err
	}
	return hint.Wrap(fmt.Errorf("image %q: %w: version %s in %s %s: %w",
		src.entry.Name, ErrUnknown, src.version, src.entry.TrackKind, src.track.Name, err),
		"each version belongs to one %s; leave version out for the newest", src.entry.TrackKind)
}

// unpackFile decompresses a local file into the cache.
func (s *Store) unpackFile(ctx context.Context, src *source, report func(Progress)) (*Image, error) {
	sum, err := s.checksumOf(ctx, src.path, "sha256", report)
	if err != nil {
		return nil, err
	}
	of := src.unpacked(sum)
	return s.build(ctx, of, of.version, report, func(w *workshop) error {
		w.record.Source = src.path
		return w.unpack(ctx, src.path, Checksum{}, report)
	})
}

// unpacked returns where the decompressed copy of a local file belongs, whose
// SHA-256 is sum.
func (src *source) unpacked(sum Checksum) *source {
	of := *src
	of.path, of.series, of.version = "", fileSeries(sum), sum.Hex[:shortSum]
	return &of
}

// workshop is the folder in which one image is put together, next to the
// series so that a rename publishes it.
type workshop struct {
	dir    string // also holds downloads, which survive a failure
	out    string // becomes the image's folder
	record record
}

// build puts SERIES/version together by means of fill, and publishes it. Only
// one process does that at a time; the others wait and use the result.
func (s *Store) build(ctx context.Context, src *source, version string, report func(Progress), fill func(*workshop) error) (*Image, error) {
	id := src.series + "/" + version
	w := &workshop{dir: s.workDir(id)}
	if err := os.MkdirAll(filepath.Dir(w.dir), 0o755); err != nil {
		return nil, s.cacheError(err)
	}
	unlock, err := s.lock(ctx, w.dir, report)
	if err != nil {
		return nil, err
	}
	defer unlock()

	img, err := s.openCached(ctx, src, version, report)
	var damaged *DamagedError
	if err == nil || !errors.Is(err, ErrNotCached) && !errors.As(err, &damaged) {
		return img, err
	}
	w.out = filepath.Join(w.dir, "out")
	if err := errors.Join(os.RemoveAll(w.out), os.MkdirAll(w.out, 0o755)); err != nil {
		return nil, s.cacheError(err)
	}
	w.record = record{Format: recordVersion, Family: src.family.Guest.Family, Arch: src.ref.Arch}
	if err := fill(w); err != nil {
		return nil, s.cacheError(err)
	}
	if err := s.publish(w, id); err != nil {
		return nil, s.cacheError(err)
	}
	return s.openCached(ctx, src, version, report)
}

func (s *Store) workDir(id string) string {
	return filepath.Join(s.dir, partialDir, strings.ReplaceAll(id, "/", "_"))
}

// lock waits until no other process works in dir.
func (s *Store) lock(ctx context.Context, dir string, report func(Progress)) (unlock func(), err error) {
	l := flock.New(dir + ".lock")
	locked, err := l.TryLock()
	if err == nil && !locked {
		newMeter(report, "waiting", 0)
		_, err = l.TryLockContext(ctx, 100*time.Millisecond)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, s.cacheError(fmt.Errorf("lock %s: %w", dir, err))
	}
	return func() {
		if err := l.Unlock(); err != nil {
			s.log.Debug("unlock", "dir", dir, "error", err)
		}
	}, nil
}

// publish gives w's result its place. A damaged predecessor makes way.
func (s *Store) publish(w *workshop, id string) error {
	b, err := json.MarshalIndent(w.record, "", "  ")
	if err != nil {
		return err
	}
	if err := maybe.WriteFile(filepath.Join(w.out, recordFile), append(b, '\n'), 0o644); err != nil {
		return err
	}
	place := s.folder(id)
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return err
	}
	old := filepath.Join(w.dir, "old")
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(place, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(w.out, place); err != nil {
		return err
	}
	for _, f := range []cachedFile{w.record.Disk, w.record.Code, w.record.Vars} {
		name := filepath.Join(place, f.Name)
		if info, err := os.Stat(name); err == nil && f.Name != "" {
			s.writeStamp(name, info, f.Checksum)
		}
	}
	return os.RemoveAll(w.dir)
}

// download gets all files of a release into w. Nothing is moved before all are
// there, so that an interruption loses none.
func (s *Store) download(ctx context.Context, src *source, r *release, w *workshop, report func(Progress)) error {
	w.record.Source = r.disk.url
	disk, err := s.fetch(ctx, src, r.disk, w, report)
	if err != nil {
		return err
	}
	var code, vars proven
	if r.code.url != "" {
		if code, err = s.fetch(ctx, src, r.code, w, report); err != nil {
			return err
		}
		if vars, err = s.fetch(ctx, src, r.vars, w, report); err != nil {
			return err
		}
		if w.record.Code, err = w.take(code, r.code.name); err != nil {
			return err
		}
		if w.record.Vars, err = w.take(vars, r.vars.name); err != nil {
			return err
		}
	}
	compression, err := sniff(disk.path)
	if err != nil {
		return err
	}
	if compression != "" {
		return w.unpack(ctx, disk.path, r.disk.unpacked, report)
	}
	return w.takeDisk(disk)
}

// proven is a file that was checked, and what it hashed to.
type proven struct {
	path     string
	checksum Checksum
}

// fetch downloads a file into w.dir and proves it. A download that was put
// together from several answers and proves wrong is repeated once, from the
// beginning.
func (s *Store) fetch(ctx context.Context, src *source, a artifact, w *workshop, report func(Progress)) (proven, error) {
	name, err := downloadName(a.url)
	if err != nil {
		return proven{}, err
	}
	file := filepath.Join(w.dir, name)
	for again := false; ; again = true {
		got, resumed, err := s.fetchOnce(ctx, src, a, file, w, report)
		wrong := errors.Is(err, ErrChecksum) || errors.Is(err, ErrSignature)
		if !wrong || !resumed || again {
			return got, err
		}
		s.log.Info("resumed download is wrong, starting again", "url", a.url, "error", err)
	}
}

// downloadName is what a download is called until it is proven. The URL may
// come from a server: on some system its characters lead to another folder or
// stream, or are too many for a name.
func downloadName(from string) (string, error) {
	u, err := url.Parse(from)
	if err != nil {
		return "", err
	}
	plain := notPlain.ReplaceAllString(path.Base(u.Path), "_")
	return "download-" + plain[:min(len(plain), maxPlain)], nil
}

var notPlain = regexp.MustCompile(`[^0-9A-Za-z._+-]`)

// maxPlain leaves room for what is put around it: names have 255 bytes.
const maxPlain = 200

// fetchOnce also says whether the content was put together from several
// answers. A download that proves wrong is removed.
func (s *Store) fetchOnce(ctx context.Context, src *source, a artifact, file string, w *workshop, report func(Progress)) (_ proven, resumed bool, err error) {
	algorithm := a.checksum.Algorithm
	if algorithm == "" {
		algorithm = "sha256"
	}
	p, err := openPartial(ctx, file, a.url, algorithm)
	if err != nil {
		return proven{}, false, err
	}
	defer p.f.Close()
	room := func(need int64) error { return s.room(ctx, need) }
	if err := s.web.fill(ctx, p, room, report); err != nil {
		if p.origin.Total < 0 && (isNoSpace(err) || errors.Is(err, ErrNoSpace)) {
			err = errors.Join(err, p.remove()) // it may never end: nothing to go on with
		}
		return proven{}, false, err
	}
	got := proven{file, sumOf(algorithm, p.h)}
	if err := s.prove(ctx, src, a, got, w, report); err != nil {
		if errors.Is(err, ErrChecksum) || errors.Is(err, ErrSignature) {
			if e := p.remove(); e != nil {
				return proven{}, false, errors.Join(err, e)
			}
		}
		return proven{}, p.resumed, err
	}
	return got, false, nil
}

// prove checks a complete download.
func (s *Store) prove(ctx context.Context, src *source, a artifact, got proven, w *workshop, report func(Progress)) error {
	if !a.checksum.IsZero() && got.checksum != a.checksum {
		return &ChecksumError{Subject: a.url, Want: a.checksum, Got: got.checksum}
	}
	if a.signature == "" {
		return nil
	}
	sig, err := s.web.get(ctx, a.signature)
	if err != nil {
		return err
	}
	w.record.SignedBy, err = s.checkSignature(ctx, src.entry, got.path, a.url, sig, report)
	return err
}

// room refuses a download that cannot fit.
func (s *Store) room(ctx context.Context, need int64) error {
	usage, err := disk.UsageWithContext(ctx, s.dir)
	if err != nil {
		s.log.Debug("free space unknown", "dir", s.dir, "error", err)
		return nil
	}
	if need > 0 && usage.Free < uint64(need) {
		return &SpaceError{Dir: s.dir, Need: uint64(need), Free: usage.Free}
	}
	return nil
}

// unpack makes w's disk from a file somewhere, decompressing it when it is
// compressed. want is what the disk must hash to; the zero Checksum accepts
// everything.
func (w *workshop) unpack(ctx context.Context, file string, want Checksum, report func(Progress)) error {
	algorithm := want.Algorithm
	if algorithm == "" {
		algorithm = "sha256"
	}
	disk := proven{path: filepath.Join(w.dir, "disk")}
	var err error
	if disk.checksum, err = unpack(ctx, file, disk.path, algorithm, report); err != nil {
		return err
	}
	if !want.IsZero() && disk.checksum != want {
		return &ChecksumError{Subject: file + " (decompressed)", Want: want, Got: disk.checksum}
	}
	return w.takeDisk(disk)
}

// takeDisk moves the disk from w.dir into the result, under a name that tells
// its format.
func (w *workshop) takeDisk(disk proven) error {
	h, err := inspect(disk.path)
	if err != nil {
		return err
	}
	w.record.Disk, err = w.take(disk, "disk."+h.format)
	return err
}

// take moves a file from w.dir into the result.
func (w *workshop) take(f proven, name string) (cachedFile, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return cachedFile{}, err
	}
	if err := os.Chmod(f.path, 0o444); err != nil {
		return cachedFile{}, err
	}
	return cachedFile{Name: name, Size: info.Size(), Checksum: f.checksum}, os.Rename(f.path, filepath.Join(w.out, name))
}

func firmwareFormat(name string) string {
	if strings.HasSuffix(name, ".qcow2") {
		return formatQcow2
	}
	return formatRaw
}
