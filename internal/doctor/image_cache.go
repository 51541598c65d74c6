package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	units "github.com/docker/go-units"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/machinefile"
)

// imageCache says what is in the cache, and whether more could be.
func (p *Patient) imageCache(ctx context.Context) []Finding {
	dir := p.Images.Dir()
	images, err := p.Images.List(ctx)
	if err != nil {
		return one(Finding{Level: Problem, Detail: err.Error(), Fix: mendAccess(dir, dir, err)})
	}
	var bytes int64
	for _, i := range images {
		bytes += i.Bytes
	}
	var found []Finding
	if at, err := writable(dir); err != nil {
		f := Finding{Level: Problem, Detail: fmt.Sprintf("%s: %v", at, err), Fix: mendAccess(dir, at, err)}
		if len(images) > 0 {
			f.Level = Warning // what is there boots
		}
		found = append(found, f)
	} else {
		found = append(found, ok("%s, %s, in %s", count(len(images), "image"), size(bytes), dir))
	}
	found = append(found, p.missingImages(images)...)
	if n, bytes, err := p.Images.Unfinished(); err == nil && n > 0 {
		found = append(found, Finding{
			Level:  Info,
			Detail: fmt.Sprintf("%s not finished, %s", count(n, "download"), size(bytes)),
			Fix:    "hostctl up goes on with it; hostctl image prune removes what it left",
		})
	}
	return found
}

// missingImages looks for what new machines start from and nobody can download.
func (p *Patient) missingImages(have []image.Cached) []Finding {
	state, err := p.Project.Load()
	if err != nil {
		return nil // machineFile says so
	}
	var found []Finding
	seen := map[string]bool{}
	for _, m := range p.machines() {
		source := m.Image.Source
		if _, exists := state.Machines[m.Name]; exists || seen[source] {
			continue
		}
		seen[source] = true
		switch {
		case filepath.IsAbs(source):
			if _, err := os.Stat(source); err != nil {
				found = append(found, Finding{
					Level:  Problem,
					Detail: fmt.Sprintf("machine %q: %v", m.Name, err),
					Fix:    fmt.Sprintf("source must be the path of a disk (%s line %d)", machinefile.FileName, m.Image.RangeOf("source").Start.Line),
				})
			}
		case builtHere(source) && !slices.ContainsFunc(have, func(c image.Cached) bool { return strings.HasPrefix(c.ID, source+"/") }):
			found = append(found, Finding{
				Level:  Problem,
				Detail: fmt.Sprintf("machine %q: image %s is not in the cache", m.Name, source),
				Fix:    "build it: make image, in a clone of hostctl's repository",
			})
		}
	}
	return found
}

// builtHere reports whether an image of the catalog has no publisher.
func builtHere(name string) bool {
	return slices.ContainsFunc(image.Catalog(), func(e image.Entry) bool { return e.Name == name && e.Publisher == nil })
}

// writable finds out whether something could be kept in dir, or, while it does
// not exist, in the folder that would hold it, which it returns.
func writable(dir string) (at string, err error) {
	at = existing(dir)
	info, err := os.Stat(at)
	switch {
	case err != nil:
		return at, errors.Unwrap(err)
	case !info.IsDir():
		return at, errors.New("not a folder")
	}
	return at, access(at)
}

// existing returns dir or the nearest folder above it that exists.
func existing(dir string) string {
	for {
		_, err := os.Lstat(dir)
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return dir
		}
		dir = parent
	}
}

// mendAccess says how to get at a cache that refuses err at a folder. Of the
// folders above the cache it says nothing: they are for others, too.
func mendAccess(dir, at string, err error) string {
	if dir == at && errors.Is(err, fs.ErrPermission) {
		return fmt.Sprintf("sudo chown -R $USER %s", dir)
	}
	return "put the cache where you can write: XDG_CACHE_HOME"
}

func size(bytes int64) string { return units.BytesSize(float64(bytes)) }
