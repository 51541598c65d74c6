package mirror

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/inode"
)

// host is the share's folder here. Everything in it is reached through an
// [os.Root]: whatever links there are, and whatever becomes a link meanwhile,
// nothing outside is read or written.
type host struct {
	root    *os.Root
	skip    Matcher
	syncDir func(dir string) error // makes names in it durable
}

// racy is how long after a change another one may leave no trace in a file's
// times: they are as coarse as the kernel's tick.
const racy = 20 * time.Millisecond

// doubt is for entries of the host that may have changed after they were read
// without that it shows: the next run sends them again.
func (e *entry) doubt(now time.Time) {
	if e.kind != file {
		return
	}
	last := e.ctime
	if last == 0 {
		last = e.mtime
	}
	if now.Sub(time.Unix(0, last)) < racy {
		e.ctime = unknown
	}
}

// scanned is what a scan found.
type scanned struct {
	tree  tree
	blind []Problem // what cannot be read: what is in it is not known
	parts []string  // files that an earlier run left half done
}

// scan reads the folder.
func (h *host) scan() (*scanned, error) {
	s := &scanned{tree: tree{}}
	return s, h.walk(s, "")
}

// rescan reads some paths again, and takes the rest of the tree as it was.
func (h *host) rescan(s *scanned, paths []string) error {
	now := time.Now()
	for _, p := range paths {
		for q := range s.tree {
			if q == p || within(q, p) {
				delete(s.tree, q)
			}
		}
		if err := h.rescanOne(s, p, now); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) rescanOne(s *scanned, p string, now time.Time) error {
	// From the root down: below what is no directory any more nothing can be
	// looked at.
	for i := range len(p) {
		if p[i] != '/' {
			continue
		}
		d := p[:i]
		e, err := h.look(d)
		if err != nil {
			return err
		}
		if e == nil || e.kind != dir || h.skip.Match(d, true) {
			return nil // gone, or left out, with what is in it
		}
		s.tree[d] = e
	}
	e, err := h.look(p)
	switch {
	case errors.Is(err, errSpecial) || err == nil && e == nil:
		return nil
	case err != nil:
		return err
	case h.skip.Match(p, e.kind == dir):
		return nil
	}
	e.doubt(now)
	s.tree[p] = e
	if e.kind == dir {
		return h.walk(s, p)
	}
	return nil
}

// walk reads the directory d and all below it.
func (h *host) walk(s *scanned, d string) error {
	now := time.Now()
	f, err := h.root.Open(path.Join(".", d))
	if err != nil {
		return err
	}
	defer f.Close()
	children, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, c := range children {
		p := path.Join(d, c.Name())
		if strings.HasPrefix(c.Name(), tempPrefix) {
			s.parts = append(s.parts, p)
			continue
		}
		if h.skip.Match(p, c.IsDir()) {
			continue
		}
		info, err := c.Info()
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue // went meanwhile
			}
			s.blind = append(s.blind, Problem{p, err})
			continue
		}
		e, err := h.entry(p, info)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				s.blind = append(s.blind, Problem{p, err})
			}
			continue
		}
		e.doubt(now)
		s.tree[p] = e
		if e.kind != dir {
			continue
		}
		if err := h.walk(s, p); err != nil {
			s.blind = append(s.blind, Problem{p, err})
		}
	}
	return nil
}

// errSpecial is a socket, a device or a pipe.
var errSpecial = errors.New("neither a file nor a directory nor a link: not mirrored")

func (h *host) entry(p string, info fs.FileInfo) (*entry, error) {
	e := &entry{mode: uint32(info.Mode().Perm())}
	switch info.Mode().Type() {
	case 0:
		e.kind, e.size, e.mtime, e.ctime = file, info.Size(), info.ModTime().UnixNano(), changeTime(info)
	case fs.ModeDir:
		e.kind = dir
	case fs.ModeSymlink:
		target, err := h.root.Readlink(p)
		if err != nil {
			return nil, err
		}
		e.kind, e.mode, e.target = symlink, 0, target
	default:
		return nil, errSpecial
	}
	return e, nil
}

// look is what is at p now; nil when nothing is.
func (h *host) look(p string) (*entry, error) {
	info, err := h.root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return h.entry(p, info)
}

// follows is the error of following a link to target at p, where the links on
// the way lead out of the folder. There need be nothing.
func (h *host) follows(p, target string) error {
	_, err := h.root.Stat(under(parent(p), target))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// errChanged means that somebody was faster: the next run sees what there is.
var errChanged = errors.New("changed meanwhile")

// unchanged makes sure that p is as it was when it was scanned.
func (h *host) unchanged(p string, was *entry) error {
	now, err := h.look(p)
	if err != nil {
		return err
	}
	if was != nil && now != nil && was.ctime == unknown {
		sure := *was
		sure.ctime = now.ctime
		was = &sure
	}
	if !now.same(was) {
		return errChanged
	}
	return nil
}

// settle makes what got its name in the directories durable.
func (h *host) settle(dirs []string) error {
	var work errgroup.Group
	work.SetLimit(fetching)
	for _, d := range dirs {
		work.Go(func() error {
			err := h.syncDir(filepath.Join(h.root.Name(), d))
			// One may be gone by now; one that may be written and not read cannot be synced.
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				err = nil
			}
			return err
		})
	}
	return work.Wait()
}

// changeTime tells a file from one that was put in its place with the same size
// and time; 0 where the system does not tell.
func changeTime(info fs.FileInfo) int64 {
	i, ok := inode.Of(info)
	if !ok {
		return 0
	}
	return i.Changed.UnixNano()
}
