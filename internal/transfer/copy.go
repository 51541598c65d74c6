package transfer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// source is the side that is read. Its errors name the path.
type source interface {
	lstat(name string) (fs.FileInfo, error)
	readDir(name string) ([]fs.FileInfo, error)
	join(dir, name string) string
	readLink(name string) (string, error)
	open(name string) (io.ReadCloser, error)
}

// target is a directory on the side that is written, with slash-separated names
// in it. Its errors name the path.
type target interface {
	path(name string) string
	lstat(name string) (fs.FileInfo, error)
	mkdir(name string) error
	create(name string) (created, error) // which must not be there; 0600 or what the umask leaves
	symlink(to, name string) error
	set(name string, mode fs.FileMode, modified time.Time) error
	rename(from, to string) error // replaces what is there
	remove(name string) error
	// settle makes what was renamed in the directories durable, where it can.
	settle(dirs []string) error
	// explain returns err, of writing to name, or what is behind it.
	explain(name string, err error) error
}

// created is a file that is being written.
type created interface {
	io.WriteCloser
	// Sync makes what was written durable, where it can: a rename may reach the
	// disk before the content does, and a crash then leaves an empty file.
	Sync() error
}

// atOnce is how many files are under way at the same time: enough to hide the
// round trips that each small one takes.
const atOnce = 16

// transfer is a copy that is under way.
type transfer struct {
	from     source
	to       target
	progress func(done, total int64)
	total    int64
	done     atomic.Int64
}

// run copies sources to the names in the target directory.
func run(ctx context.Context, from source, sources []string, to target, names []string, o Options) (Result, error) {
	t := &transfer{from: from, to: to, progress: o.Progress}
	r := Result{Skipped: []string{}}
	err := t.run(ctx, sources, names, &r)
	r.Bytes = t.done.Load()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r, err
}

func (t *transfer) run(ctx context.Context, sources, names []string, r *Result) error {
	var dirs, files, links []item
	for i, s := range sources {
		items, err := t.list(ctx, s, names[i])
		if err != nil {
			return err
		}
		for _, it := range items {
			switch mode := it.info.Mode(); {
			case mode.IsDir():
				dirs = append(dirs, it)
			case mode.IsRegular():
				files = append(files, it)
				t.total += it.info.Size()
			case mode.Type() == fs.ModeSymlink:
				links = append(links, it)
			default:
				r.Skipped = append(r.Skipped, it.from)
			}
		}
	}
	made, err := t.makeDirs(ctx, dirs)
	r.Directories = len(made)
	if err != nil {
		return err
	}
	t.report(0)
	var nFiles, nLinks atomic.Int64
	err = each(ctx, slices.Concat(files, links), func(ctx context.Context, it item) error {
		if it.info.Mode().IsRegular() {
			err := t.file(ctx, it)
			if err == nil {
				nFiles.Add(1)
			}
			return err
		}
		err := t.link(it)
		if err == nil {
			nLinks.Add(1)
		}
		return err
	})
	r.Files, r.Links = int(nFiles.Load()), int(nLinks.Load())
	if err != nil {
		return err
	}
	if err := t.to.settle(parents(files, links, made)); err != nil {
		return err
	}
	return t.finish(ctx, made)
}

// parents returns the directories that items are in.
func parents(items ...[]item) []string {
	seen := make(map[string]bool)
	for _, it := range slices.Concat(items...) {
		seen[path.Dir(it.to)] = true
	}
	return slices.Collect(maps.Keys(seen))
}

// list returns what one source consists of.
func (t *transfer) list(ctx context.Context, from, name string) ([]item, error) {
	info, err := t.from.lstat(from)
	if err != nil {
		return nil, err
	}
	to := strings.TrimSuffix(name, "/")
	switch {
	case info.IsDir():
	case to != name:
		return nil, fmt.Errorf("%s is not a directory", t.to.path(to))
	case to == ".":
		return nil, fmt.Errorf("%s is not a directory", from)
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		return nil, fmt.Errorf("%s is neither a file nor a directory", from)
	}
	return list(ctx, t.from, item{from, to, info})
}

// makeDirs makes the directories that are not there, and returns those.
func (t *transfer) makeDirs(ctx context.Context, dirs []item) ([]item, error) {
	isMade := make(map[string]bool)
	var made []item
	for len(dirs) > 0 {
		// Those of one depth at the same time.
		n := 1
		for n < len(dirs) && depth(dirs[n]) == depth(dirs[0]) {
			n++
		}
		var mu sync.Mutex
		var fresh []item
		err := each(ctx, dirs[:n], func(_ context.Context, it item) error {
			isNew, err := t.makeDir(it, isMade[path.Dir(it.to)])
			if isNew {
				mu.Lock()
				defer mu.Unlock()
				fresh = append(fresh, it)
			}
			return err
		})
		for _, it := range fresh {
			isMade[it.to] = true
		}
		made = append(made, fresh...)
		if err != nil {
			return made, err
		}
		dirs = dirs[n:]
	}
	return made, nil
}

func depth(it item) int {
	if it.to == "." {
		return 0
	}
	return strings.Count(it.to, "/") + 1
}

// makeDir reports whether the directory was missing.
func (t *transfer) makeDir(it item, fresh bool) (bool, error) {
	if it.to == "." {
		return false, nil
	}
	err := t.to.mkdir(it.to)
	if err == nil {
		return true, nil
	}
	if fresh {
		return false, t.to.explain(it.to, err)
	}
	switch info, lerr := t.to.lstat(it.to); {
	case lerr != nil:
		return false, t.to.explain(it.to, err)
	case !info.IsDir():
		return false, fmt.Errorf("%s is there and not a directory, which %s is", t.to.path(it.to), it.from)
	}
	return false, nil
}

// file copies a regular file.
func (t *transfer) file(ctx context.Context, it item) error {
	return t.replace(it, func(temporary string) error {
		r, err := t.from.open(it.from)
		if err != nil {
			return err
		}
		defer r.Close()
		w, err := t.to.create(temporary)
		if err != nil {
			return err
		}
		err = t.copy(ctx, w, r, it.info.Size())
		if err == nil {
			err = w.Sync()
		}
		if cerr := w.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
		return t.to.set(temporary, it.info.Mode().Perm(), it.info.ModTime())
	})
}

// link copies a symbolic link.
func (t *transfer) link(it item) error {
	return t.replace(it, func(temporary string) error {
		link, err := t.from.readLink(it.from)
		if err != nil {
			return err
		}
		return t.to.symlink(link, temporary)
	})
}

// replace lets write make a temporary file, and gives it the item's name.
func (t *transfer) replace(it item, write func(temporary string) error) error {
	temporary := path.Join(path.Dir(it.to), ".hostctl-"+rand.Text()+".tmp")
	err := write(temporary)
	if err == nil {
		err = t.to.rename(temporary, it.to)
	}
	if err == nil {
		return nil
	}
	called(err, path.Base(temporary), t.to.path(it.to))
	// A rename over a directory fails in words that do not say so.
	if info, lerr := t.to.lstat(it.to); lerr == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory, and %s is not", t.to.path(it.to), it.from)
	} else {
		err = t.to.explain(it.to, err)
	}
	if rerr := t.to.remove(temporary); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// called has err name the file that a temporary one stands for.
func called(err error, temporary, name string) {
	if g, ok := errors.AsType[*GuestError](err); ok && path.Base(g.Path) == temporary {
		g.Path = name
	}
	if h, ok := errors.AsType[*hostError](err); ok && filepath.Base(h.path) == temporary {
		h.path = name
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok && filepath.Base(p.Path) == temporary {
		p.Path = name
	}
}

// finish gives the directories that were made their modes and times, which the
// files in them would have changed.
func (t *transfer) finish(ctx context.Context, made []item) error {
	// A directory that one may not search hides those in it.
	for depths := slices.Clone(made); len(depths) > 0; {
		n := len(depths) - 1
		for n > 0 && depth(depths[n-1]) == depth(depths[n]) {
			n--
		}
		err := each(ctx, depths[n:], func(_ context.Context, it item) error {
			return t.to.set(it.to, it.info.Mode().Perm(), it.info.ModTime())
		})
		if err != nil {
			return err
		}
		depths = depths[:n]
	}
	return nil
}

// each does something for many items, some at a time.
func each(ctx context.Context, items []item, do func(context.Context, item) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, it := range items {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			return do(gctx, it)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

func (t *transfer) report(n int) {
	done := t.done.Add(int64(n))
	if t.progress != nil {
		t.progress(done, t.total)
	}
}

// copy copies data of about that size. The guest's end of it sees to that many
// requests are under way, the host's that it is counted and can be stopped.
func (t *transfer) copy(ctx context.Context, w io.Writer, r io.Reader, size int64) error {
	if _, upload := w.(guestFile); upload {
		r = countedReader{ctx, t, r, size}
	} else {
		w = countedWriter{ctx, t, w}
	}
	_, err := io.Copy(w, r)
	return err
}

type countedReader struct {
	ctx  context.Context
	t    *transfer
	r    io.Reader
	size int64
}

func (c countedReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.t.report(n)
	return n, err
}

// Size lets the guest's end know that there is enough for many requests.
func (c countedReader) Size() int64 { return c.size }

type countedWriter struct {
	ctx context.Context
	t   *transfer
	w   io.Writer
}

func (c countedWriter) Write(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.w.Write(p)
	c.t.report(n)
	return n, err
}
