//go:build linux || darwin

package nfs

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxNodes are known at one time, some 300 bytes each. Of more than that
	// the one that was not used for longest is forgotten; its handle holds.
	maxNodes = 1 << 16
	// trust is how long a directory that is open counts as being in the share.
	// A folder that the host moves out of the share is out of reach after it.
	trust = time.Second
	// maxPlaces are remembered of a file with several hard links.
	maxPlaces = 16
)

// volume is an export at work.
type volume struct {
	of       Export
	name     string
	path     string // where it is mounted
	dir      string // on the host, absolute
	export   uint32
	readOnly bool
	uid, gid uint32
	side     *sideStore
	files    *files

	// naming is held by whatever changes names, so that what is seen before
	// and after the change is about the change.
	naming sync.Mutex
	// content is held, by inode, while a file is written or its owner changed.
	content [64]sync.Mutex

	// bare is a device that has no user extended attributes, plus one.
	bare atomic.Uint64

	searching sync.Mutex // held by searches; see search.go
	found     searches

	mu       sync.Mutex // of what follows, and of all nodes
	root     *node
	rootDev  uint64
	rootIno  uint64
	nodes    map[uint64]*node
	recent   node // head of the ring of nodes, the most recently used first
	gone     goneRing
	maxNodes int
}

// node is a file or directory that handles were made for.
type node struct {
	id     uint64
	gen    uint32
	dir    bool
	gone   bool // was removed through the server
	parent *node
	name   string
	others []place // further hard links
	hints  string  // the path in its handle
	below  string  // the path in handles of what is made in the directory
	kids   int     // nodes that have it as their parent: these need it
	seen   time.Time
	// inside is when it was in the share for certain: when the root was opened that
	// it was reached from. Were it when it was seen, a guest that makes one directory
	// in another would be trusted a second longer with each.
	inside time.Time
	kept   *remembered // immutable; nil when nothing is known
	prev   *node
	next   *node
}

// remembered is what was kept beside a file when its ctime was at.
type remembered struct {
	owner owner
	kept  bool
	at    stamp
	// until is when to ask again. It is zero where only a change with another
	// ctime can have followed.
	until    time.Time
	changing bool // somebody is changing it: nothing is known
}

// place is a name in a directory.
type place struct {
	parent *node
	name   string
}

// exportID is by what handles know an export.
func exportID(key []byte, name string) uint32 {
	return binary.BigEndian.Uint32(derive(key, "export", name))
}

func newVolume(e Export, key []byte, side *sideStore) (*volume, error) {
	if e.Name == "" || strings.ContainsAny(e.Name, "/\x00") {
		return nil, fmt.Errorf("export %q: not a name", e.Name)
	}
	dir, err := filepath.Abs(e.Dir)
	if err != nil {
		return nil, fmt.Errorf("export %q: %w", e.Name, err)
	}
	v := &volume{
		of: e, name: e.Name, path: Path(key, e.Name), dir: dir, readOnly: e.ReadOnly,
		export: exportID(key, e.Name), uid: e.UID, gid: e.GID, side: side,
		files: newFiles(), nodes: map[uint64]*node{}, maxNodes: maxNodes,
	}
	v.recent.prev, v.recent.next = &v.recent, &v.recent
	v.root = &node{id: rootID, dir: true}
	v.nodes[rootID] = v.root
	if err := v.openFirst(); err != nil {
		v.files.close()
		return nil, fmt.Errorf("export %q: %w", e.Name, err)
	}
	return v, nil
}

// openFirst makes sure that there is a folder to serve.
func (v *volume) openFirst() error {
	if i, err := os.Stat(v.dir); err != nil {
		return err
	} else if !i.IsDir() {
		return fmt.Errorf("%s is not a folder", v.dir)
	}
	f, err := v.openNode(v.root)
	if err != nil {
		return fmt.Errorf("open %s: %w", v.dir, err)
	}
	f.release()
	return nil
}

// id is the inode number that guests see: the host's, unless the file is on
// another file system than the share's folder.
func (v *volume) id(dev, ino uint64) uint64 {
	v.mu.Lock()
	root := v.rootDev
	v.mu.Unlock()
	if dev == root {
		return ino
	}
	return foreign(dev, ino)
}

// foreign is the inode number of a file on another file system.
func foreign(dev, ino uint64) uint64 {
	h := dev*0x9e3779b97f4a7c15 ^ ino*0xbf58476d1ce4e5b9
	h ^= h >> 31
	return h*0x94d049bb133111eb | 1<<63
}

func (v *volume) isRoot(s stat) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return s.ino == v.rootIno && s.dev == v.rootDev
}

// generation tells apart the files that an inode is used for in turn.
func generation(s stat) uint32 {
	h := uint64(s.btime.sec)*1_000_000_007 + uint64(s.btime.nsec)
	return uint32(h ^ h>>32)
}

// lockContent locks what is written of n, or kept beside it.
func (v *volume) lockContent(n *node) *sync.Mutex {
	m := &v.content[n.id%uint64(len(v.content))]
	m.Lock()
	return m
}

// child returns the node of name in parent, which was seen there with s.
func (v *volume) child(parent *node, name string, s stat) *node {
	id, gen := v.id(s.dev, s.ino), generation(s)
	if v.isRoot(s) {
		return v.root
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.nodes[id]
	if n != nil && (n.gen != gen || n.dir != s.isDir()) {
		v.drop(n) // the inode is another file's now
		n = nil
	}
	if n == nil {
		n = &node{id: id, gen: gen, dir: s.isDir(), parent: parent, name: name, hints: below(parent)}
		v.insert(n)
	} else {
		v.moveTo(n, place{parent, name}, n.dir || s.nlink == 1)
	}
	n.seen, n.inside = time.Now(), parent.inside
	v.touch(n)
	return n
}

// childWith is child for a file of which the state a is known.
func (v *volume) childWith(parent *node, name string, a *attr) *node {
	n := v.child(parent, name, a.plainStat())
	v.mu.Lock()
	n.kept = a.memo
	v.mu.Unlock()
	return n
}

// below returns the path that handles of what is in dir have. v.mu is held.
func below(dir *node) string {
	if dir.parent == nil {
		return ""
	}
	if dir.below == "" {
		h := dir.hints
		if len(h) < maxHints {
			h += string([]byte{hint(dir.id)})
		}
		dir.below = h
	}
	return dir.below
}

// moveTo notes that n is at p: nowhere else when it is the only place, or also
// there. v.mu is held.
func (v *volume) moveTo(n *node, p place, only bool) {
	if n.parent == p.parent && n.name == p.name {
		if only {
			n.others = nil
		}
		return
	}
	if n.dir {
		for a := p.parent; a != nil; a = a.parent {
			if a == n {
				n.inside = time.Time{}
				return // the tree changed meanwhile; p is out of date
			}
		}
	}
	if !only {
		for _, o := range n.others {
			if o == p {
				return
			}
		}
		if len(n.others) < maxPlaces {
			n.others = append(n.others, p)
		}
		return
	}
	n.put(p)
	n.others = nil
}

// put has n be at p, in memory. v.mu is held.
func (n *node) put(p place) {
	if n.next != nil { // is not forgotten, and so counts
		n.parent.kids--
		p.parent.kids++
	}
	n.parent, n.name, n.inside = p.parent, p.name, p.parent.inside
}

// leave notes that n is not at p any more. v.mu is held.
func (v *volume) leave(n *node, p place) {
	for i, o := range n.others {
		if o == p {
			n.others = append(n.others[:i:i], n.others[i+1:]...)
			return
		}
	}
	if n.parent == p.parent && n.name == p.name && len(n.others) > 0 {
		o := n.others[0]
		n.others = n.others[1:]
		n.put(o)
	}
}

// insert adds a node, and forgets others for it. v.mu is held.
func (v *volume) insert(n *node) {
	v.nodes[n.id] = n
	n.parent.kids++
	n.next, n.prev = v.recent.next, &v.recent
	n.next.prev, n.prev.next = n, n
	// Directories that are needed go to the front: some rounds suffice, as
	// there are far fewer of them than of what is in them.
	for tries := 0; len(v.nodes) > v.maxNodes && tries < 64; tries++ {
		last := v.recent.prev
		if last == n {
			return
		}
		if last.kids > 0 {
			v.touch(last)
			continue
		}
		v.drop(last)
	}
}

// drop forgets n. v.mu is held.
func (v *volume) drop(n *node) {
	if v.nodes[n.id] != n || n == v.root {
		return
	}
	delete(v.nodes, n.id)
	n.prev.next, n.next.prev = n.next, n.prev
	n.prev, n.next = nil, nil
	n.parent.kids--
	v.files.drop(n)
}

// touch notes that n is in use. v.mu is held.
func (v *volume) touch(n *node) {
	if n.next == nil || v.recent.next == n {
		return
	}
	n.prev.next, n.next.prev = n.next, n.prev
	n.next, n.prev = v.recent.next, &v.recent
	n.next.prev, n.prev.next = n, n
}

// known returns the node of a handle when it is in memory.
func (v *volume) known(h handle) *node {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.nodes[h.id]
	if n == nil || n != v.root && n.gen != h.gen {
		return nil
	}
	if n.hints != string(h.hints) && n != v.root {
		// A guest has this one since before the server was started. The handle
		// must stay the same for it to be the same file.
		n.hints = string(h.hints)
	}
	v.touch(n)
	return n
}

// whereabouts returns what says where n is. The parent of the root is nil.
func (v *volume) whereabouts(n *node) (parent *node, name string, inside time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return n.parent, n.name, n.inside
}

// is tells whether s is of n.
func (v *volume) is(n *node, s stat) bool {
	if n == v.root {
		return v.isRoot(s)
	}
	return v.id(s.dev, s.ino) == n.id && generation(s) == n.gen && s.isDir() == n.dir
}

// saw notes that n is where it was.
func (v *volume) saw(n *node) {
	v.mu.Lock()
	n.seen, n.inside = time.Now(), n.parent.inside
	v.mu.Unlock()
}

// doubt has the next access make sure where n is.
func (v *volume) doubt(n *node) {
	v.mu.Lock()
	n.seen, n.inside = time.Time{}, time.Time{}
	v.mu.Unlock()
}

// openNode returns a descriptor of a directory, for what is in it. It is the
// directory that n stands for, wherever the host has moved it in the share;
// otherwise errStale. Not for searches: it may begin one.
func (v *volume) openNode(n *node) (*file, error) {
	for attempt := 0; ; attempt++ {
		f, err := v.openThere(n)
		if err == nil || attempt > 0 || statusOf(err) != errStale || n == v.root {
			return f, err
		}
		if err := v.locate(n); err != nil {
			return nil, err
		}
	}
}

// openThere is openNode for a directory that is where it was.
func (v *volume) openThere(n *node) (*file, error) {
	if f := v.openTrusted(n); f != nil {
		return f, nil
	}
	return v.descend(n)
}

func (v *volume) openTrusted(n *node) *file {
	_, _, inside := v.whereabouts(n)
	if time.Since(inside) > trust {
		return nil
	}
	return v.files.get(n, false)
}

// descend opens directories from the nearest one above that is where it was,
// downwards: no more than two are open at a time.
func (v *volume) descend(n *node) (*file, error) {
	var way []*node
	var f *file
	for a := n; f == nil; {
		parent, _, _ := v.whereabouts(a)
		if parent == nil {
			var err error
			if f, err = v.openRoot(); err != nil {
				return nil, err
			}
			break
		}
		way = append(way, a)
		if len(way) > 1<<14 {
			return nil, errStale
		}
		a = parent
		f = v.openTrusted(a)
	}
	for i := len(way) - 1; i >= 0; i-- {
		next, err := v.step(f, way[i])
		f.release()
		if err != nil {
			return nil, err
		}
		f = next
	}
	return f, nil
}

// step opens the directory n, which should be in the one that is open.
func (v *volume) step(in *file, n *node) (*file, error) {
	_, name, _ := v.whereabouts(n)
	s, err := statAt(in.fd, name)
	if err != nil {
		return nil, stale(err)
	}
	if !v.is(n, s) {
		return nil, errStale
	}
	if f := v.files.get(n, false); f != nil {
		v.saw(n)
		return f, nil
	}
	fd, err := openDir(in.fd, name)
	if err != nil {
		return nil, stale(err)
	}
	if s, err = statFD(fd); err != nil || !v.is(n, s) {
		closeFD(fd)
		return nil, errStale
	}
	v.saw(n)
	return v.files.put(n, fd, false), nil
}

// stale is what an error on the way to a file means for the file's handle.
func stale(err error) error {
	switch statusOf(err) {
	case errNoEnt, errNotDir:
		return errStale
	}
	return err
}

// openRoot opens the share's folder, which may be another than before.
func (v *volume) openRoot() (*file, error) {
	now := time.Now()
	fd, err := openAt(unix.AT_FDCWD, v.dir, dirFlags&^unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, stale(err)
	}
	s, err := statFD(fd)
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	v.mu.Lock()
	same := v.rootDev == s.dev && v.rootIno == s.ino
	v.rootDev, v.rootIno = s.dev, s.ino
	v.root.inside = now
	v.mu.Unlock()
	if !same {
		v.forgetOwner(rootID)
		v.files.drop(v.root)
	} else if f := v.files.get(v.root, false); f != nil {
		closeFD(fd)
		return f, nil
	}
	return v.files.put(v.root, fd, false), nil
}

// at is an open directory and a name in it: what an operation works on.
type at struct {
	*file
	name string
}

// reach returns where n is: directories by themselves, others in their parent.
// The file there is the one that n stands for, with the attributes returned;
// otherwise errStale.
func (v *volume) reach(n *node) (at, attr, error) {
	if n.dir {
		w, a, err := v.reachDir(n)
		if statusOf(err) == errStale {
			v.doubt(n) // it was removed while it was trusted
			w, a, err = v.reachDir(n)
		}
		return w, a, err
	}
	for attempt := 0; ; attempt++ {
		w, a, err := v.reachFile(n)
		if err == nil || attempt > 0 || statusOf(err) != errStale {
			return w, a, err
		}
		if err := v.locate(n); err != nil {
			return at{}, attr{}, err
		}
	}
}

func (v *volume) reachDir(n *node) (at, attr, error) {
	f, err := v.openNode(n)
	if err != nil {
		return at{}, attr{}, err
	}
	a, err := v.attrAt(f.fd, ".")
	if err == nil && (a.nlink == 0 || !v.is(n, a.stat)) {
		err = errStale
	}
	if err != nil {
		f.release()
		return at{}, attr{}, stale(err)
	}
	return at{f, "."}, a, nil
}

func (v *volume) reachFile(n *node) (at, attr, error) {
	parent, name, _ := v.whereabouts(n)
	f, err := v.openNode(parent)
	if err != nil {
		return at{}, attr{}, err
	}
	a, err := v.attrAt(f.fd, name)
	if err == nil && !v.is(n, a.plainStat()) {
		err = errStale
	}
	if err != nil {
		f.release()
		return at{}, attr{}, stale(err)
	}
	v.saw(n)
	return at{f, name}, a, nil
}

// plainStat is the host's stat.
func (a *attr) plainStat() stat {
	s := a.stat
	s.mode = a.real
	return s
}

// goneRing remembers what was removed lately, so that nobody looks for it.
type goneRing struct {
	ids  [1024]uint64
	next int
}

func (g *goneRing) key(id uint64, gen uint32) uint64 {
	return id ^ uint64(gen)<<32 ^ 1 // never 0
}

func (g *goneRing) add(id uint64, gen uint32) {
	if gen == 0 {
		return // another file could not be told apart from it
	}
	g.ids[g.next] = g.key(id, gen)
	g.next = (g.next + 1) % len(g.ids)
}

func (g *goneRing) has(id uint64, gen uint32) bool {
	k := g.key(id, gen)
	for _, i := range g.ids {
		if i == k {
			return true
		}
	}
	return false
}

// removed notes that the file that n stands for, if it is known, has lost the
// name at p, and was it the last one, is gone.
func (v *volume) removed(n *node, p place, last bool) {
	if n == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !last {
		v.leave(n, p)
		return
	}
	n.gone = true
	v.gone.add(n.id, n.gen)
	if n.kids == 0 {
		v.drop(n)
	}
	v.files.drop(n)
}

// lookNode returns the node for s when there is one in memory.
func (v *volume) lookNode(s stat) *node {
	id := v.id(s.dev, s.ino)
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := v.nodes[id]; n != nil && n.gen == generation(s) {
		return n
	}
	return nil
}
