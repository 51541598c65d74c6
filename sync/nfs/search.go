//go:build linux || darwin

package nfs

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A handle whose file is not known, or is not where it was, is looked for: at
// its other names, in the lists of large directories read lately, along the
// path in the handle, and in the whole share at last.
//
// Walking through the share is what makes a handle hold when the host moves a
// file, but most files that are not found are gone. So a walk leaves behind all
// inode numbers that it saw: what was last seen before the walk, and was not
// among them, needs no other one.

const (
	// worthKeeping is how many elements make it worth it to keep a
	// directory's list.
	worthKeeping = 512
	maxListed    = 300_000 // elements in all lists
	maxWalked    = 2 << 20 // inode numbers kept of a walk
	keepWalk     = 5 * time.Minute
	// briefWalk is the same for files of which it is not known when they were
	// seen: they may have been made, and moved, since.
	briefWalk = 5 * time.Second
)

// searches is what searches leave for later ones. volume.searching is held.
type searches struct {
	lists  []*listing // the last one used first
	walked []uint64   // sorted
	at     time.Time  // when that walk began
}

// listing is a directory's elements, sorted by inode number.
type listing struct {
	dir      *node
	elements []element
	names    string
}

type element struct {
	ino      uint64
	from, to uint32 // the name, in names
}

// locate finds where n is now.
func (v *volume) locate(n *node) error {
	if n == v.root {
		return errStale
	}
	v.mu.Lock()
	gone, hints := n.gone, n.hints
	places := append([]place{{n.parent, n.name}}, n.others...)
	v.mu.Unlock()
	if gone {
		return errStale
	}
	for _, p := range places {
		if s, err := v.statPlace(p, v.openNode); err == nil && v.is(n, s) {
			v.mu.Lock()
			others := slices.DeleteFunc(places, func(o place) bool { return o == p })
			v.moveTo(n, p, true)
			n.others = others
			n.seen, n.inside = time.Now(), p.parent.inside
			v.mu.Unlock()
			return nil
		}
	}
	v.searching.Lock()
	defer v.searching.Unlock()
	v.mu.Lock()
	since := n.seen
	v.mu.Unlock()
	w := wanted{v: v, id: n.id, gen: n.gen, since: since}
	// Most often it has another name in the same directory.
	if f, err := v.openThere(places[0].parent); err == nil {
		found := w.inDir(f, places[0].parent)
		f.release()
		if found != nil {
			v.settle(n, w.at)
			return nil
		}
	}
	found := w.find(hints)
	if found == nil {
		v.mu.Lock()
		v.drop(n)
		v.mu.Unlock()
		return errStale
	}
	v.settle(n, w.at)
	return nil
}

// settle has n be where its file was found. The places where it is not any
// more are forgotten.
func (v *volume) settle(n *node, at place) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.moveTo(n, at, true)
	n.seen, n.inside = time.Now(), at.parent.inside
}

func (v *volume) statPlace(p place, open func(*node) (*file, error)) (stat, error) {
	f, err := open(p.parent)
	if err != nil {
		return stat{}, err
	}
	defer f.release()
	return statAt(f.fd, p.name)
}

// find returns the node of a handle that is not in memory.
func (v *volume) find(h handle) (*node, error) {
	v.searching.Lock()
	defer v.searching.Unlock()
	if n := v.known(h); n != nil {
		return n, nil // somebody else has found it
	}
	v.mu.Lock()
	gone := v.gone.has(h.id, h.gen)
	v.mu.Unlock()
	if gone {
		return nil, errStale
	}
	w := wanted{v: v, id: h.id, gen: h.gen}
	n := w.find(string(h.hints))
	if n == nil {
		return nil, errStale
	}
	v.mu.Lock()
	n.hints = string(h.hints)
	v.mu.Unlock()
	return n, nil
}

// wanted is a file that is searched for.
type wanted struct {
	v     *volume
	id    uint64
	gen   uint32
	since time.Time // when it was last seen; zero is never
	at    place     // where it was found
}

// seenAt notes where the file was found, and returns its node.
func (w *wanted) seenAt(p place, s stat) *node {
	w.at = p
	return w.v.child(p.parent, p.name, s)
}

// find tries everything, and returns nil when the file is gone. searching is
// held.
func (w *wanted) find(hints string) *node {
	if n := w.inLists(); n != nil {
		return n
	}
	root, err := w.v.openThere(w.v.root)
	if err != nil {
		return nil
	}
	defer root.release()
	if n := w.along(root, w.v.root, hints); n != nil {
		return n
	}
	return w.everywhere(root)
}

func (w *wanted) inLists() *node {
	lists := w.v.found.lists
	for i, l := range lists {
		at, found := slices.BinarySearchFunc(l.elements, w.id, func(e element, id uint64) int {
			switch {
			case e.ino < id:
				return -1
			case e.ino > id:
				return 1
			}
			return 0
		})
		if !found {
			continue
		}
		e := l.elements[at]
		p := place{l.dir, l.names[e.from:e.to]}
		if s, err := w.v.statPlace(p, w.v.openThere); err == nil && w.matches(s) {
			copy(lists[1:], lists[:i])
			lists[0] = l
			return w.seenAt(place{p.parent, strings.Clone(p.name)}, s)
		}
	}
	return nil
}

func (w *wanted) matches(s stat) bool {
	return w.v.id(s.dev, s.ino) == w.id && generation(s) == w.gen
}

// inDir looks for the file in one directory, and keeps its list if it is long.
func (w *wanted) inDir(f *file, dir *node) *node {
	n, _ := w.scan(f, dir, func(*dirent) bool { return false })
	return n
}

// scan looks for the file in the directory and collects those of its
// directories that enter wants.
func (w *wanted) scan(f *file, dir *node, enter func(*dirent) bool) (*node, []string) {
	var (
		dirs  []string
		match []string
		l     listing
		names strings.Builder
		buf   = make([]byte, 32<<10)
	)
	s, err := statFD(f.fd)
	if err != nil {
		return nil, nil
	}
	err = readDir(f.fd, 0, buf, func(e *dirent) bool {
		if isDots(e.name) {
			return true
		}
		from := uint32(names.Len())
		names.Write(e.name)
		l.elements = append(l.elements, element{w.v.id(s.dev, e.ino), from, uint32(names.Len())})
		if w.v.id(s.dev, e.ino) == w.id {
			match = append(match, string(e.name))
		}
		if mayBeDir(e) && enter(e) {
			dirs = append(dirs, string(e.name))
		}
		return len(l.elements) < maxListed
	})
	if err != nil {
		return nil, dirs
	}
	if len(l.elements) >= worthKeeping && dir != nil {
		l.dir, l.names = dir, names.String()
		w.v.keepList(&l)
	}
	for _, name := range match {
		if s, err := statAt(f.fd, name); err == nil && w.matches(s) && dir != nil {
			return w.seenAt(place{dir, name}, s), nil
		}
	}
	return nil, dirs
}

// keepList keeps a list, and forgets old ones.
func (v *volume) keepList(l *listing) {
	slices.SortFunc(l.elements, func(a, b element) int {
		switch {
		case a.ino < b.ino:
			return -1
		case a.ino > b.ino:
			return 1
		}
		return 0
	})
	lists := slices.DeleteFunc(v.found.lists, func(o *listing) bool { return o.dir == l.dir })
	lists = slices.Insert(lists, 0, l)
	sum := 0
	for i, o := range lists {
		if sum += len(o.elements); i > 0 && sum > maxListed {
			clear(lists[i:])
			lists = lists[:i]
			break
		}
	}
	v.found.lists = lists
}

func isDots(name []byte) bool {
	return len(name) == 1 && name[0] == '.' || len(name) == 2 && name[0] == '.' && name[1] == '.'
}

func mayBeDir(e *dirent) bool { return e.kind == unix.DT_DIR || e.kind == unix.DT_UNKNOWN }

// along follows the path of a handle. Several directories can have one hash.
func (w *wanted) along(f *file, dir *node, hints string) *node {
	if len(hints) == 0 {
		return w.inDir(f, dir)
	}
	s, err := statFD(f.fd)
	if err != nil {
		return nil
	}
	n, dirs := w.scan(f, dir, func(e *dirent) bool {
		return hint(w.v.id(s.dev, e.ino)) == hints[0]
	})
	for _, name := range dirs {
		if n != nil {
			break
		}
		w.into(f, dir, name, func(f *file, dir *node) {
			n = w.along(f, dir, hints[1:])
		})
	}
	return n
}

// into calls do with the directory name in dir, if it is one.
func (w *wanted) into(f *file, dir *node, name string, do func(*file, *node)) {
	s, err := statAt(f.fd, name)
	if err != nil || !s.isDir() {
		return
	}
	n := w.v.child(dir, name, s)
	sub, err := w.v.openThere(n)
	if err != nil {
		return
	}
	defer sub.release()
	do(sub, n)
}

// everywhere walks through the share, unless the last walk knows already that
// the file is gone.
func (w *wanted) everywhere(root *file) *node {
	c := &w.v.found
	keep := keepWalk
	if w.since.IsZero() {
		keep = briefWalk
	}
	if time.Since(c.at) < keep && w.since.Before(c.at) && c.walked != nil {
		if _, found := slices.BinarySearch(c.walked, w.id); !found {
			return nil
		}
	}
	c.at, c.walked = time.Now(), nil
	var all []uint64
	whole := true
	var names []string
	walk := walker{w: w, all: &all, whole: &whole}
	walk.dir(root.fd, &names)
	if whole {
		slices.Sort(all)
		c.walked = all
	}
	if walk.found == nil {
		return nil
	}
	return w.byNames(walk.found)
}

type walker struct {
	w     *wanted
	all   *[]uint64
	whole *bool
	found []string // the path to the file
	depth int
}

func (k *walker) dir(fd int, names *[]string) {
	s, err := statFD(fd)
	if err != nil || k.depth > 1<<10 {
		*k.whole = false
		return
	}
	var dirs []string
	err = readDir(fd, 0, make([]byte, 16<<10), func(e *dirent) bool {
		if isDots(e.name) {
			return true
		}
		id := k.w.v.id(s.dev, e.ino)
		if len(*k.all) < maxWalked {
			*k.all = append(*k.all, id)
		} else {
			*k.whole = false
		}
		if id == k.w.id && k.found == nil {
			k.found = append(slices.Clone(*names), string(e.name))
		}
		if mayBeDir(e) {
			dirs = append(dirs, string(e.name))
		}
		return true
	})
	if err != nil {
		*k.whole = false
	}
	for _, name := range dirs {
		sub, err := openDir(fd, name)
		if err != nil {
			if statusOf(err) != errNoEnt && statusOf(err) != errNotDir {
				*k.whole = false
			}
			continue
		}
		*names = append(*names, name)
		k.depth++
		k.dir(sub, names)
		k.depth--
		*names = (*names)[:len(*names)-1]
		closeFD(sub)
	}
}

// byNames returns the node of the file at the end of a path, if it is there.
func (w *wanted) byNames(names []string) *node {
	n := w.v.root
	for i, name := range names {
		p := place{n, name}
		s, err := w.v.statPlace(p, w.v.openThere)
		if err != nil {
			return nil
		}
		if i == len(names)-1 {
			if !w.matches(s) {
				return nil
			}
			return w.seenAt(p, s)
		}
		n = w.v.child(n, name, s)
	}
	return nil
}
