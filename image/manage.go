package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/hostctl/hostctl/internal/hint"
)

// Cached is one image in the cache.
type Cached struct {
	ID      string    `json:"id"` // its folder below the cache, with slashes; what [Store.Remove] takes
	Version string    `json:"version"`
	Arch    string    `json:"arch"`
	Family  string    `json:"family"`
	Source  string    `json:"source"`  // URL or path that it came from
	Path    string    `json:"path"`    // of the disk
	Bytes   int64     `json:"bytes"`   // on disk, firmware included
	Current bool      `json:"current"` // what a machine without a pinned version gets
	Stored  time.Time `json:"stored"`

	files []string // disk and firmware
}

// InUseError refuses to remove an image that a machine's disk is based on.
type InUseError struct{ ID string }

func (e *InUseError) Error() string { return fmt.Sprintf("image %s is %v", e.ID, ErrInUse) }
func (e *InUseError) Unwrap() error { return ErrInUse }

// Hint says what frees the image.
func (e *InUseError) Hint() string {
	return "destroy the machines that use it first (hostctl global-status)"
}

// List returns the images in the cache, sorted by id. It checks none of them;
// one whose record cannot be read is listed without what that tells.
func (s *Store) List(ctx context.Context) ([]Cached, error) {
	var all []Cached
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // no cache yet, or removed meanwhile
		}
		if err != nil {
			return err
		}
		if !d.IsDir() {
			return nil
		}
		if strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		rel, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err
		}
		c, ok := s.cached(filepath.ToSlash(rel))
		if !ok {
			return nil
		}
		all = append(all, c)
		return fs.SkipDir
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Cached) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// cached describes the image with an id, if there is one.
func (s *Store) cached(id string) (Cached, bool) {
	rec, err := s.readRecord(id)
	if errors.Is(err, ErrNotCached) {
		return Cached{}, false
	}
	series, version := splitID(id)
	current, err := s.current(series)
	if err != nil {
		s.log.Debug("current version unreadable", "series", series, "error", err)
	}
	c := Cached{
		ID:      id,
		Version: version,
		Arch:    rec.Arch,
		Family:  rec.Family,
		Source:  rec.Source,
		Current: current == version,
	}
	if c.Arch == "" {
		c.Arch = runtime.GOARCH
	}
	entries, err := os.ReadDir(s.folder(id))
	if err != nil {
		return Cached{}, false
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // removed meanwhile
		}
		path := filepath.Join(s.folder(id), e.Name())
		c.files = append(c.files, path)
		c.Bytes += info.Size()
		if e.Name() == rec.Disk.Name {
			c.Path, c.Stored = path, info.ModTime()
		}
	}
	return c, true
}

func splitID(id string) (series, version string) {
	i := strings.LastIndexByte(id, '/')
	return id[:max(i, 0)], id[i+1:]
}

// Users looks which files machines are based on now. It is called before
// anything is removed, and for each image again under that image's lock: a
// machine may have been made meanwhile.
type Users func() (inUse func(path string) bool, err error)

// Remove removes the image with an id, or all images whose ids begin with it:
// "flatcar/beta". Nothing is removed when a machine uses one of them; that gives
// an *[InUseError]. It returns what was removed.
func (s *Store) Remove(ctx context.Context, id string, users Users) ([]Cached, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	id = strings.TrimSuffix(id, "/")
	chosen := slices.DeleteFunc(all, func(c Cached) bool {
		return c.ID != id && !strings.HasPrefix(c.ID, id+"/")
	})
	if len(chosen) == 0 {
		return nil, hint.Wrap(fmt.Errorf("image %s: %w", id, ErrNotCached), "hostctl image list shows what is")
	}
	inUse, err := users()
	if err != nil {
		return nil, err
	}
	for _, c := range chosen {
		if slices.ContainsFunc(c.files, inUse) {
			return nil, &InUseError{c.ID}
		}
	}
	for i, c := range chosen {
		if err := s.removeImage(c, users); err != nil {
			return chosen[:i], err
		}
	}
	return chosen, nil
}

// removeImage hides the image by one rename before it takes it apart, so that
// an interruption leaves no half image.
func (s *Store) removeImage(c Cached, users Users) error {
	work := s.workDir(c.ID)
	if err := os.MkdirAll(work, 0o755); err != nil {
		return s.cacheError(err)
	}
	l := flock.New(work + ".lock")
	if locked, err := l.TryLock(); err != nil || !locked {
		return errors.Join(fmt.Errorf("image %s is being fetched by another process", c.ID), err)
	}
	defer func() {
		if err := l.Unlock(); err != nil {
			s.log.Debug("unlock", "image", c.ID, "error", err)
		}
	}()
	inUse, err := users()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(c.files, inUse) {
		return &InUseError{c.ID}
	}
	gone := filepath.Join(work, "removed")
	if err := os.RemoveAll(gone); err != nil {
		return s.cacheError(err)
	}
	if err := os.Rename(s.folder(c.ID), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.cacheError(err)
	}
	if c.Current {
		series, _ := splitID(c.ID)
		if err := os.Remove(filepath.Join(s.folder(series), currentFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.cacheError(err)
		}
	}
	// Folders that are empty now; the first one that is not ends it.
	for series, _ := splitID(c.ID); series != ""; series, _ = splitID(series) {
		if os.Remove(s.folder(series)) != nil {
			break
		}
	}
	return s.cacheError(os.RemoveAll(work))
}

// Pruned is what [Store.Prune] removed.
type Pruned struct {
	Images []Cached
	Bytes  int64 // freed, unfinished downloads included
}

// Prune removes the images that no machine uses, and what unfinished downloads
// left. What another process is getting stays.
func (s *Store) Prune(ctx context.Context, users Users) (Pruned, error) {
	var p Pruned
	all, err := s.List(ctx)
	if err != nil {
		return p, err
	}
	inUse, err := users()
	if err != nil {
		return p, err
	}
	for _, c := range all {
		if slices.ContainsFunc(c.files, inUse) {
			continue
		}
		err := s.removeImage(c, users)
		if errors.Is(err, ErrInUse) {
			continue
		}
		if err != nil {
			return p, err
		}
		p.Images = append(p.Images, c)
		p.Bytes += c.Bytes
	}
	freed, err := s.prunePartials(ctx)
	p.Bytes += freed
	if err != nil {
		return p, err
	}
	return p, s.pruneStamps()
}

// Unfinished returns how many downloads wait to go on, or are under way, and
// what they take on disk. It changes nothing.
func (s *Store) Unfinished() (n int, bytes int64, err error) {
	dir := filepath.Join(s.dir, partialDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	for _, e := range entries {
		if size := treeSize(filepath.Join(dir, e.Name())); e.IsDir() && size > 0 {
			n++
			bytes += size
		}
	}
	return n, bytes, err
}

func (s *Store) prunePartials(ctx context.Context) (freed int64, err error) {
	dir := filepath.Join(s.dir, partialDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return freed, context.Cause(ctx)
		}
		if !e.IsDir() {
			continue
		}
		work := filepath.Join(dir, e.Name())
		l := flock.New(work + ".lock")
		if locked, err := l.TryLock(); err != nil || !locked {
			continue // in use
		}
		size := treeSize(work)
		err := os.RemoveAll(work)
		if e := l.Unlock(); e != nil {
			err = errors.Join(err, e)
		}
		if err != nil {
			return freed, s.cacheError(err)
		}
		freed += size
	}
	return freed, nil
}

// pruneStamps forgets files that are gone.
func (s *Store) pruneStamps() error {
	dir := filepath.Join(s.dir, stampsDir)
	names, err := fs.Glob(os.DirFS(dir), "*.json")
	if err != nil {
		return err
	}
	for _, name := range names {
		name = filepath.Join(dir, name)
		var st stamp
		b, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(b, &st)
		}
		if err == nil {
			if _, err = os.Stat(st.Path); err == nil {
				continue
			}
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.cacheError(err)
		}
	}
	return nil
}

func treeSize(dir string) int64 {
	var n int64
	// Files that vanish meanwhile count nothing.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// ImportOptions describe an imported disk.
type ImportOptions struct {
	Family   string // required: "dockerhost", "flatcar" or "fedora-coreos"
	Arch     string // "": the host's
	Checksum string // of the file as it is: "sha256:HEX" or "sha512:HEX"; "": not checked
}

// Import copies a disk, qcow2 or raw, decompressed where needed, into the
// cache, so that machine files can say image = NAME. Importing another file
// under the same name makes that the current one; machines that exist keep the
// disk they were made from.
func (s *Store) Import(ctx context.Context, name, path string, opts ImportOptions, report func(Progress)) (*Image, error) {
	if !importName.MatchString(name) {
		return nil, hint.Wrap(fmt.Errorf("image name %q is not usable", name), "use lower-case letters, digits and hyphens")
	}
	for _, e := range s.catalog {
		if e.Name == name {
			return nil, hint.Wrap(fmt.Errorf("image name %q belongs to the catalog", name), "choose another name")
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	src, err := s.resolve(Ref{Source: path, Family: opts.Family, Arch: opts.Arch, Checksum: opts.Checksum})
	if err != nil {
		return nil, err
	}
	if err := checkDisk(path); err != nil {
		return nil, err
	}
	if err := s.verify(ctx, path, src.checksum, report); err != nil {
		return nil, err
	}
	sum, err := s.checksumOf(ctx, path, "sha256", report)
	if err != nil {
		return nil, err
	}
	of := *src
	of.path, of.series, of.version = "", importSeries(name), sum.Hex[:shortSum]
	of.ref = Ref{Source: name, Arch: src.ref.Arch}
	img, err := s.build(ctx, &of, of.version, report, func(w *workshop) error {
		w.record.Source = path
		return w.unpack(ctx, path, Checksum{}, report)
	})
	if err != nil {
		return nil, err
	}
	return img, s.setCurrent(of.series, of.version)
}

// checkDisk refuses what is no disk before it is copied. What a compressed
// file holds shows later.
func checkDisk(path string) error {
	packed, err := sniff(path)
	if err != nil || packed != "" {
		return err
	}
	_, err = inspect(path)
	return err
}
