package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/adrg/xdg"

	"github.com/hostctl/hostctl/internal/hint"
)

// localName is the catalog's image that is built on this host.
const localName = "dockerhost"

// Config says where a [Store] keeps images and how it gets them.
type Config struct {
	Dir     string // the cache; "" is [DefaultDir]
	KeysDir string // keys the user adds: FAMILY/*.asc below it; "" is [DefaultKeysDir]

	Client  *http.Client // nil: one that honours the proxy variables
	Catalog []Entry      // nil: [Catalog]
	Logger  *slog.Logger // nil: silent

	// StallTimeout ends a connection on which nothing arrives; 0 is 30 s.
	StallTimeout time.Duration
	// RetryWait is the pause before the first repetition of a request, which
	// doubles up to 30 s; 0 is 1 s.
	RetryWait time.Duration
}

// Store is the image cache. It is safe for concurrent use, also by several
// processes.
type Store struct {
	dir, keysDir string
	catalog      []Entry
	log          *slog.Logger
	web          *web
}

// DefaultDir returns $XDG_CACHE_HOME/hostctl/images.
func DefaultDir() string { return filepath.Join(xdg.CacheHome, "hostctl", "images") }

// DefaultKeysDir returns $XDG_CONFIG_HOME/hostctl/keys.
func DefaultKeysDir() string { return filepath.Join(xdg.ConfigHome, "hostctl", "keys") }

// NewStore returns the cache in cfg.Dir. It touches neither disk nor network.
func NewStore(cfg Config) *Store {
	s := &Store{
		dir:     cfg.Dir,
		keysDir: cfg.KeysDir,
		catalog: cfg.Catalog,
		log:     cfg.Logger,
	}
	if s.dir == "" {
		s.dir = DefaultDir()
	}
	if s.keysDir == "" {
		s.keysDir = DefaultKeysDir()
	}
	if s.catalog == nil {
		s.catalog = Catalog()
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.web = newWeb(cfg.Client, s.log, cfg.StallTimeout, cfg.RetryWait)
	return s
}

// Dir returns the cache's folder.
func (s *Store) Dir() string { return s.dir }

// Lookup returns an image that is on this host, without any network traffic.
// Without a version it is the one that was current when an image of its name
// was last fetched. What is not in the cache gives [ErrNotCached]; a path that
// does not exist gives fs.ErrNotExist. The file is hashed only when it changed
// since it was last seen.
func (s *Store) Lookup(ctx context.Context, ref Ref) (*Image, error) {
	return s.lookup(ctx, ref, nil)
}

func (s *Store) lookup(ctx context.Context, ref Ref, report func(Progress)) (*Image, error) {
	src, err := s.resolve(ref)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, src, report)
}

// Ensure returns the image, getting it first when it is not in the cache:
// download, verification, decompression, publication. progress may be nil; it
// is called from one goroutine at a time and not after Ensure returned.
//
// Errors are one of the package's sentinels, an *[HTTPError] or the network's;
// most carry a hint. Whatever happens, also SIGKILL, the cache never holds a
// half image, and the next call goes on where this one ended.
func (s *Store) Ensure(ctx context.Context, ref Ref, progress func(Progress)) (*Image, error) {
	src, err := s.resolve(ref)
	if err != nil {
		return nil, err
	}
	img, err := s.open(ctx, src, progress)
	var damaged *DamagedError
	switch {
	case err == nil:
		return img, nil
	case !src.obtainable():
		return nil, err
	case errors.As(err, &damaged):
		s.log.Warn("getting a damaged image again", "image", damaged.ID, "error", damaged.Err)
		if src.version == "" {
			src.version = filepath.Base(filepath.FromSlash(damaged.ID))
		}
	case !errors.Is(err, ErrNotCached):
		return nil, err
	}
	return s.obtain(ctx, src, progress)
}

// Pull is Ensure, but asks the publisher for the newest version when ref pins
// none, and makes it the one that [Store.Lookup] finds. One that is older than
// that is refused. The publisher's keys are fetched again, so that one that was
// revoked meanwhile does not count.
func (s *Store) Pull(ctx context.Context, ref Ref, progress func(Progress)) (*Image, error) {
	src, err := s.resolve(ref)
	if err != nil {
		return nil, err
	}
	if src.entry == nil || src.entry.Publisher == nil {
		return s.Ensure(ctx, ref, progress)
	}
	if err := s.refreshKeys(ctx, src.entry); err != nil {
		return nil, err
	}
	if src.version != "" {
		return s.Ensure(ctx, ref, progress)
	}
	return s.obtain(ctx, src, progress)
}

// source is where a [Ref] leads: a file in its place, or a series of versions
// in the cache.
type source struct {
	ref      Ref // with the catalog's defaults filled in
	entry    *Entry
	family   *Entry // whose guests these are; nil when the record tells
	track    Track
	checksum Checksum

	path    string // of a local file
	series  string // folder below the cache, with slashes
	version string // "": the current one
}

// obtainable reports whether more can be done than looking.
func (src *source) obtainable() bool {
	return src.path != "" || src.ref.isURL() || src.entry != nil && src.entry.Publisher != nil
}

func (r Ref) isURL() bool { return strings.Contains(r.Source, "://") }

// resolve finds out what ref means. It needs no network.
func (s *Store) resolve(ref Ref) (*source, error) {
	src := &source{ref: ref, version: ref.Version}
	if ref.Checksum != "" {
		sum, err := ParseChecksum(ref.Checksum)
		if err != nil {
			return nil, fmt.Errorf("image %q: %w", ref.Source, err)
		}
		src.checksum = sum
	}
	if ref.Arch == "" {
		src.ref.Arch = runtime.GOARCH
	}
	switch {
	case filepath.IsAbs(ref.Source):
		src.path = filepath.Clean(src.ref.Source)
		return src, s.resolveFamily(src)
	case ref.isURL():
		return src, s.resolveURL(src)
	case ref.Checksum != "":
		return nil, hint.Wrap(fmt.Errorf("image %q: a checksum is for paths and URLs", ref.Source),
			"this image is proven by other means; to stay with one release, set version")
	}
	for i := range s.catalog {
		if s.catalog[i].Name == ref.Source {
			src.entry = &s.catalog[i]
			src.family = src.entry
			return src, src.resolveEntry()
		}
	}
	if importName.MatchString(ref.Source) && s.exists(importSeries(ref.Source)) {
		src.series = importSeries(ref.Source)
		return src, src.checkVersion()
	}
	return nil, s.unknown(ref.Source)
}

func (s *Store) resolveURL(src *source) error {
	if scheme, _, _ := strings.Cut(src.ref.Source, "://"); !strings.EqualFold(scheme, "https") {
		return fmt.Errorf("image %q: only https URLs are fetched", src.ref.Source)
	}
	if src.checksum.IsZero() {
		return hint.Wrap(fmt.Errorf("image %q: a URL needs a checksum", src.ref.Source),
			`add checksum = "sha256:..." to the image block`)
	}
	src.series = urlSeries(src.checksum)
	src.version = src.checksum.Hex[:shortSum]
	return s.resolveFamily(src)
}

// resolveFamily finds whose guests run on a disk that is in no catalog.
func (s *Store) resolveFamily(src *source) error {
	var families []string
	for i := range s.catalog {
		e := &s.catalog[i]
		if e.Guest.Family == src.ref.Family {
			src.family = e
			return nil
		}
		families = append(families, e.Guest.Family)
	}
	err := fmt.Errorf("image %q: family %q is unknown", src.ref.Source, src.ref.Family)
	if src.ref.Family == "" {
		err = fmt.Errorf("image %q: its family is not known", src.ref.Source)
	}
	return hint.Wrap(err, "say what runs in it: family = one of %s", strings.Join(families, ", "))
}

// resolveEntry fills in the catalog's defaults and refuses what the catalog
// does not have.
func (src *source) resolveEntry() error {
	e := src.entry
	wanted, other, otherKind := src.ref.Channel, src.ref.Stream, "stream"
	if e.TrackKind == "stream" {
		wanted, other, otherKind = src.ref.Stream, src.ref.Channel, "channel"
	}
	if e.TrackKind == "" && wanted != "" {
		other, otherKind = wanted, "channel"
	}
	if other != "" {
		err := fmt.Errorf("image %q: %w: it has no %ss", e.Name, ErrUnknown, otherKind)
		if e.TrackKind == "" {
			return err
		}
		return hint.Wrap(err, "it has %ss: %s", e.TrackKind, strings.Join(e.trackNames(), ", "))
	}
	track, ok := e.track(wanted)
	if !ok {
		return hint.Wrap(fmt.Errorf("image %q: %w: %s %q", e.Name, ErrUnknown, e.TrackKind, wanted),
			"known %ss: %s", e.TrackKind, strings.Join(e.trackNames(), ", "))
	}
	src.track = track
	switch e.TrackKind {
	case "channel":
		src.ref.Channel = track.Name
	case "stream":
		src.ref.Stream = track.Name
	}
	if e.Arches == nil {
		if src.ref.Arch != runtime.GOARCH {
			return fmt.Errorf("image %q: %w: it is built for this host's architecture, %s, not %s",
				e.Name, ErrUnknown, runtime.GOARCH, src.ref.Arch)
		}
		src.series = e.Name
	} else {
		if _, ok := e.Arches[src.ref.Arch]; !ok {
			return hint.Wrap(fmt.Errorf("image %q: %w: architecture %q", e.Name, ErrUnknown, src.ref.Arch),
				"known architectures: %s", strings.Join(e.archNames(), ", "))
		}
		src.series = strings.Join([]string{e.Name, track.Name, src.ref.Arch}, "/")
	}
	return src.checkVersion()
}

// checkVersion refuses a version that is no name of a folder.
func (src *source) checkVersion() error {
	if src.version != "" && !versionName.MatchString(src.version) {
		return fmt.Errorf("image %q: %w: version %q", src.ref.Source, ErrUnknown, src.version)
	}
	return nil
}

// unknown says which names there are, and which one was perhaps meant.
func (s *Store) unknown(name string) error {
	var names []string
	for _, e := range s.catalog {
		names = append(names, e.Name)
	}
	names = append(names, s.importNames()...)
	err := fmt.Errorf("image %q: %w", name, ErrUnknown)
	if nearest := hint.Nearest(name, names); nearest != "" {
		return hint.Wrap(err, "did you mean %q?", nearest)
	}
	return hint.Wrap(err, "known images: %s; or give a path, or an https URL with a checksum", strings.Join(names, ", "))
}
