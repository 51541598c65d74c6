package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2/maybe"

	"github.com/hostctl/hostctl/internal/hint"
)

// Layout of the cache. An image is a folder SERIES/VERSION; its id is that
// path. A series is dockerhost, flatcar/CHANNEL/ARCH,
// fedora-coreos/STREAM/ARCH, import/NAME, url/CHECKSUM or file/CHECKSUM.
const (
	currentFile = "current"    // in a series: the version that is used when none is pinned
	recordFile  = "image.json" // in an image: a record
	sumSuffix   = ".sha256"    // beside a disk that scripts/build-image published: its only record

	partialDir = ".partial"  // downloads under way, a folder each, with locks beside them
	stampsDir  = ".verified" // what files hashed to
	keysDir    = ".keys"     // publishers' keys, as downloaded

	shortSum = 12 // digits of a checksum in a version
)

var (
	versionName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+-]*$`)
	importName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
)

func importSeries(name string) string    { return "import/" + name }
func urlSeries(sum Checksum) string      { return "url/" + sum.Algorithm + "-" + sum.Hex }
func fileSeries(sum Checksum) string     { return "file/" + sum.Algorithm + "-" + sum.Hex }
func (s *Store) folder(id string) string { return filepath.Join(s.dir, filepath.FromSlash(id)) }

func (s *Store) exists(id string) bool {
	_, err := os.Stat(s.folder(id))
	return err == nil
}

func (s *Store) importNames() []string {
	entries, err := os.ReadDir(s.folder("import"))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// record is what the cache knows of an image: image.json.
type record struct {
	Format   int        `json:"format_version"`
	Family   string     `json:"family"`
	Arch     string     `json:"arch"`
	Source   string     `json:"source"`              // URL or path that it came from
	SignedBy string     `json:"signed_by,omitempty"` // fingerprint of the publisher's primary key
	Disk     cachedFile `json:"disk"`
	Code     cachedFile `json:"firmware_code,omitzero"`
	Vars     cachedFile `json:"firmware_vars,omitzero"`
}

// recordVersion is the newest image.json that this program understands.
const recordVersion = 1

type cachedFile struct {
	Name     string   `json:"name"` // in the image's folder
	Size     int64    `json:"size"` // bytes; 0: not recorded
	Checksum Checksum `json:"checksum"`
}

// current returns the version that a series uses, or "".
func (s *Store) current(series string) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.folder(series), currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	version := strings.TrimSpace(string(b))
	if !versionName.MatchString(version) {
		return "", fmt.Errorf("%s: %q is no version", filepath.Join(s.folder(series), currentFile), version)
	}
	return version, nil
}

func (s *Store) setCurrent(series, version string) error {
	return s.cacheError(maybe.WriteFile(filepath.Join(s.folder(series), currentFile), []byte(version+"\n"), 0o644))
}

// readRecord reads an image's record. An image that scripts/build-image
// published has none; its disk's checksum file stands for it.
func (s *Store) readRecord(id string) (record, error) {
	b, err := os.ReadFile(filepath.Join(s.folder(id), recordFile))
	if err == nil {
		var r record
		if err := json.Unmarshal(b, &r); err != nil {
			return record{}, &DamagedError{id, fmt.Errorf("%s: %w", recordFile, err)}
		}
		if r.Format > recordVersion {
			return record{}, hint.Wrap(fmt.Errorf("image %s was stored by a newer hostctl", id), "update hostctl")
		}
		for _, f := range []string{r.Disk.Name, r.Code.Name, r.Vars.Name} {
			if f != filepath.Base(f) && f != "" || f == ".." {
				return record{}, &DamagedError{id, fmt.Errorf("%s: file name %q leads elsewhere", recordFile, f)}
			}
		}
		return r, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return record{}, err
	}
	const disk = "disk.qcow2"
	b, err = os.ReadFile(filepath.Join(s.folder(id), disk+sumSuffix))
	if err != nil {
		return record{}, fmt.Errorf("image %s: %w", id, ErrNotCached)
	}
	sum, err := parseSumFile(b, disk)
	if err != nil {
		return record{}, &DamagedError{id, fmt.Errorf("%s: %w", disk+sumSuffix, err)}
	}
	series, _, _ := strings.Cut(id, "/")
	return record{Family: series, Source: "scripts/build-image", Disk: cachedFile{Name: disk, Checksum: sum}}, nil
}

// open returns the image that src leads to, without network.
func (s *Store) open(ctx context.Context, src *source, report func(Progress)) (*Image, error) {
	if src.path != "" {
		return s.openFile(ctx, src, report)
	}
	version := src.version
	if version == "" {
		var err error
		if version, err = s.current(src.series); err != nil {
			return nil, err
		}
	}
	if version == "" {
		return nil, s.notCached(src, src.series)
	}
	img, err := s.openCached(ctx, src, version, report)
	if errors.Is(err, ErrNotCached) {
		return nil, s.notCached(src, src.series+"/"+version)
	}
	return img, err
}

// notCached tells how to get what is missing.
func (s *Store) notCached(src *source, id string) error {
	err := fmt.Errorf("image %s: %w", id, ErrNotCached)
	if src.entry != nil && src.entry.Publisher == nil {
		return hint.Wrap(fmt.Errorf("%w in %s", err, s.dir), "build it: make image, in a clone of hostctl's repository (each user has a cache of his own)")
	}
	return hint.Wrap(err, "hostctl up gets it, or hostctl image pull")
}

// openCached returns SERIES/version after checking that it is still what was
// published.
func (s *Store) openCached(ctx context.Context, src *source, version string, report func(Progress)) (*Image, error) {
	id := src.series + "/" + version
	rec, err := s.readRecord(id)
	if err != nil {
		return nil, err
	}
	family := src.family
	if family == nil {
		of := *src
		of.ref.Family = rec.Family
		if err := s.resolveFamily(&of); err != nil {
			return nil, err
		}
		family = of.family
	}
	arch := rec.Arch
	if arch == "" {
		arch = src.ref.Arch
	}
	release := version
	if src.entry == nil {
		release = src.ref.Version // this version is a checksum
	}
	img := &Image{
		Ref:     src.ref,
		Version: version,
		Arch:    arch,
		Path:    filepath.Join(s.folder(id), rec.Disk.Name),
		Guest:   family.guest(release),
	}
	h, err := inspect(img.Path)
	if err != nil {
		return nil, &DamagedError{id, err}
	}
	img.Format, img.Size = h.format, h.size
	for _, f := range []cachedFile{rec.Disk, rec.Code, rec.Vars} {
		if err := s.checkFile(ctx, id, f, report); err != nil {
			return nil, err
		}
	}
	if rec.Code.Name != "" {
		img.Firmware = &Firmware{
			Code:   filepath.Join(s.folder(id), rec.Code.Name),
			Vars:   filepath.Join(s.folder(id), rec.Vars.Name),
			Format: firmwareFormat(rec.Code.Name),
		}
	}
	return img, nil
}

// checkFile compares a cached file with its record: the size at once, the
// content when the file changed since it was last read.
func (s *Store) checkFile(ctx context.Context, id string, f cachedFile, report func(Progress)) error {
	if f.Name == "" {
		return nil
	}
	if f.Checksum.IsZero() {
		// Nothing is stored without one.
		return &DamagedError{id, fmt.Errorf("%s: no checksum of %s", recordFile, f.Name)}
	}
	path := filepath.Join(s.folder(id), f.Name)
	if f.Size != 0 {
		info, err := os.Stat(path)
		if err != nil {
			return &DamagedError{id, err}
		}
		if info.Size() < f.Size {
			return &DamagedError{id, &TruncatedError{Subject: path, Want: f.Size, Got: info.Size()}}
		}
	}
	err := s.verify(ctx, path, f.Checksum, report)
	if errors.Is(err, ErrChecksum) || errors.Is(err, fs.ErrNotExist) {
		return &DamagedError{id, err}
	}
	return err
}

// openFile returns a disk in its own place, or the unpacked copy of a
// compressed one.
func (s *Store) openFile(ctx context.Context, src *source, report func(Progress)) (*Image, error) {
	compression, err := sniff(src.path)
	if err != nil {
		return nil, err
	}
	if err := s.verify(ctx, src.path, src.checksum, report); err != nil {
		return nil, err
	}
	if compression != "" {
		sum, err := s.checksumOf(ctx, src.path, "sha256", report)
		if err != nil {
			return nil, err
		}
		of := src.unpacked(sum)
		img, err := s.openCached(ctx, of, of.version, report)
		if errors.Is(err, ErrNotCached) {
			err = s.notCached(src, src.path)
		}
		return img, err
	}
	h, err := inspect(src.path)
	if err != nil {
		return nil, err
	}
	return &Image{
		Ref:     src.ref,
		Version: src.version,
		Arch:    src.ref.Arch,
		Path:    src.path,
		Format:  h.format,
		Size:    h.size,
		Guest:   src.family.guest(src.version),
	}, nil
}
