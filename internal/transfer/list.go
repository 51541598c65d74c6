package transfer

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// item is a file, directory or link to copy.
type item struct {
	from string // path at the source
	to   string // slash-separated, in the target directory
	info fs.FileInfo
}

// A path that is longer is no path that the guest could open: what goes deeper
// is there to keep us busy.
const maxPath = 4096

// list returns what is to be copied for one source, parents first. It reads
// directories of one depth at the same time: each takes several round trips.
func list(ctx context.Context, from source, root item) ([]item, error) {
	all := []item{root}
	for level := all; ; {
		var dirs []item
		for _, it := range level {
			if it.info.IsDir() {
				dirs = append(dirs, it)
			}
		}
		if len(dirs) == 0 {
			return all, nil
		}
		found := make([][]item, len(dirs))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for i, dir := range dirs {
			g.Go(func() (err error) {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				found[i], err = children(from, dir)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		level = slices.Concat(found...)
		all = append(all, level...)
	}
}

// children returns what is in a directory.
func children(from source, dir item) ([]item, error) {
	infos, err := from.readDir(dir.from)
	if err != nil {
		return nil, err
	}
	items := make([]item, len(infos))
	for i, info := range infos {
		name := info.Name()
		// A guest can say anything.
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return nil, fmt.Errorf("%s: a file cannot be called %q", dir.from, name)
		}
		items[i] = item{from.join(dir.from, name), path.Join(dir.to, name), info}
		if len(items[i].to) > maxPath {
			return nil, fmt.Errorf("%s: the path is too long", items[i].from)
		}
	}
	return items, nil
}
