//go:build linux || darwin

package nfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostctl/hostctl/internal/wait"
)

// Handles that a guest has hold when the server starts anew and knows nothing.
func TestHandlesOutliveTheServer(t *testing.T) {
	w := newWorld(t)
	dir := w.root
	var handles [][]byte
	var ids []uint64
	for depth := range 40 { // more than a handle has room for
		d, st := w.mkdir(dir, fmt.Sprintf("d%d", depth), 0o755)
		w.want(st, ok)
		f, st := w.create(dir, "f", guarded, sets{})
		w.want(st, ok)
		l, st := w.symlink(dir, "l", "f")
		w.want(st, ok)
		for _, h := range [][]byte{d, f, l} {
			handles = append(handles, h)
			ids = append(ids, w.stat(h).id)
		}
		dir = d
	}
	for i := len(handles) - 1; i >= 0; i-- {
		if i%30 == 0 {
			w.restart(t)
		}
		if got := w.stat(handles[i]).id; got != ids[i] {
			t.Errorf("handle %d is of inode %d, not %d", i, got, ids[i])
		}
	}
	w.restart(t)
	for i, h := range handles[:9] {
		parent := w.root
		for d := range i / 3 {
			parent = w.find(parent, fmt.Sprintf("d%d", d))
		}
		name := []string{fmt.Sprintf("d%d", i/3), "f", "l"}[i%3]
		if got := w.find(parent, name); !bytes.Equal(got, h) {
			t.Errorf("%s has another handle after a restart", name)
		}
	}
}

func TestHandlesOutliveRenameAndRestart(t *testing.T) {
	w := newWorld(t)
	a, _ := w.mkdir(w.root, "a", 0o755)
	b, _ := w.mkdir(a, "b", 0o755)
	f, _ := w.create(b, "f", guarded, sets{})
	other, _ := w.mkdir(w.root, "other", 0o755)
	w.want(w.rename(w.root, "a", other, "moved"), ok)
	w.restart(t)
	w.stat(f)
	w.stat(b)
	if got := w.find(w.root, "other", "moved", "b", "f"); !bytes.Equal(got, f) {
		t.Error("a handle that is in use was replaced")
	}
	w.want(w.remove(b, "f"), ok)
	_, st := w.getattr(f)
	w.want(st, errStale)
}

// The host moves files while guests have them.
func TestHandlesOutliveTheHostsMoves(t *testing.T) {
	w := newWorld(t)
	a, _ := w.mkdir(w.root, "a", 0o755)
	f, _ := w.create(a, "f", guarded, sets{})
	must(t, os.MkdirAll(filepath.Join(w.dir, "x", "y"), 0o755))

	must(t, os.Rename(filepath.Join(w.dir, "a", "f"), filepath.Join(w.dir, "a", "g")))
	w.stat(f)
	must(t, os.Rename(filepath.Join(w.dir, "a", "g"), filepath.Join(w.dir, "x", "y", "h")))
	w.stat(f)
	must(t, os.Rename(filepath.Join(w.dir, "x"), filepath.Join(w.dir, "a", "z")))
	w.stat(f)
	must(t, os.Rename(filepath.Join(w.dir, "a"), filepath.Join(w.dir, "b")))
	w.stat(f)
	if got := w.find(w.root, "b", "z", "y", "h"); !bytes.Equal(got, f) {
		t.Error("the handle changed")
	}
	must(t, os.Remove(filepath.Join(w.dir, "b", "z", "y", "h")))
	_, st := w.getattr(f)
	w.want(st, errStale)

	// A file in its place is another one, also when it gets the inode.
	g, _ := w.create(w.root, "g", guarded, sets{})
	must(t, os.Remove(filepath.Join(w.dir, "g")))
	must(t, os.WriteFile(filepath.Join(w.dir, "g"), nil, 0o644))
	_, st = w.getattr(g)
	w.want(st, errStale)
	w.stat(w.find(w.root, "g"))
}

func TestOtherLinkIsFound(t *testing.T) {
	w := newWorld(t)
	d, _ := w.mkdir(w.root, "d", 0o755)
	f, _ := w.create(w.root, "f", guarded, sets{})
	w.want(w.link(f, d, "g"), ok)
	w.restart(t)
	w.stat(f)
	for _, n := range []string{"h", "i"} {
		must(t, os.Link(filepath.Join(w.dir, "f"), filepath.Join(w.dir, "d", n)))
	}
	for _, n := range []string{"f", "d/i", "d/g"} {
		must(t, os.Remove(filepath.Join(w.dir, n)))
		w.stat(f)
	}
	must(t, os.Remove(filepath.Join(w.dir, "d", "h")))
	_, st := w.getattr(f)
	w.want(st, errStale)
}

// The share's folder is deleted and made again.
func TestFolderMadeAgain(t *testing.T) {
	w := newWorld(t)
	f, _ := w.create(w.root, "f", guarded, sets{})
	must(t, os.RemoveAll(w.dir))
	w.becomesStale(w.root)
	must(t, os.Mkdir(w.dir, 0o755))
	must(t, os.WriteFile(filepath.Join(w.dir, "new"), []byte("x"), 0o644))
	if a := w.stat(w.root); a.id != rootID {
		t.Errorf("another root: %+v", a)
	}
	w.stat(w.find(w.root, "new"))
	_, st := w.getattr(f)
	w.want(st, errStale)
}

// becomesStale waits until the server does not trust any more what it saw.
func (w *world) becomesStale(h []byte) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*trust)
	defer cancel()
	must(w.t, wait.Until(ctx, trust/10, func(context.Context) error {
		if _, st := w.getattr(h); st != errStale {
			return fmt.Errorf("not stale: %w", st)
		}
		return nil
	}))
}

// A guest's root cannot leave the share by links, names or races.
func TestNothingOutside(t *testing.T) {
	w := newWorld(t)
	out := filepath.Join(filepath.Dir(w.dir), "outside")
	must(t, os.Mkdir(out, 0o755))
	secret := filepath.Join(out, "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o644))
	for name, to := range map[string]string{"abs": out, "rel": "../outside", "file": secret, "self": "/proc/self/root"} {
		h, st := w.symlink(w.root, name, to)
		w.want(st, ok)
		if _, st := w.lookup(h, "secret"); st != errNotDir {
			t.Errorf("lookup through %s: %d", name, st)
		}
		if _, _, st := w.read(h, 0, 10); st != errInval {
			t.Errorf("read of %s: %d", name, st)
		}
		if _, _, st := w.write(h, 0, []byte("x"), fileSync); st != errInval {
			t.Errorf("write of %s: %d", name, st)
		}
		if st := w.setattr(h, sets{size: p(uint64(0))}); st != errInval {
			t.Errorf("truncate of %s: %d", name, st)
		}
		if _, st := w.create(w.root, name, unchecked, sets{size: p(uint64(0))}); st != errExist {
			t.Errorf("create over %s: %d", name, st)
		}
		w.setattr(h, sets{mode: p(uint32(0o777)), atime: &stamp{1, 1}, mtime: &stamp{1, 1}})
		d, _ := w.mkdir(w.root, "d-"+name, 0o755)
		w.want(w.link(h, d, "hard"), ok)
		if a := w.stat(w.find(d, "hard")); a.kind != 5 {
			t.Errorf("a hard link to %s is of kind %d", name, a.kind)
		}
		w.want(w.remove(w.root, name), ok)
	}
	for _, name := range []string{"..", "../outside", "../../etc", "/etc"} {
		if h, st := w.lookup(w.root, name); st == ok && !bytes.Equal(h, w.root) {
			t.Errorf("%q leads somewhere", name)
		}
		if _, st := w.create(w.root, name, unchecked, sets{}); st == ok {
			t.Errorf("created %q", name)
		}
	}
	b, err := os.ReadFile(secret)
	must(t, err)
	i, err := os.Stat(secret)
	must(t, err)
	if string(b) != "secret" || i.Mode() != 0o644 || i.ModTime().Unix() == 1 {
		t.Errorf("the file outside was changed: %q %v %v", b, i.Mode(), i.ModTime())
	}
}

// Folders and files are exchanged for links to the outside while the guest
// uses them.
func TestRacesStayInside(t *testing.T) {
	w := newWorld(t)
	out := filepath.Join(filepath.Dir(w.dir), "outside")
	must(t, os.Mkdir(out, 0o755))
	must(t, os.WriteFile(filepath.Join(out, "f"), []byte("secret"), 0o644))
	must(t, os.Mkdir(filepath.Join(w.dir, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(w.dir, "d", "f"), []byte("inside"), 0o644))
	must(t, os.Symlink(out, filepath.Join(w.dir, "link")))
	must(t, os.Symlink(filepath.Join(out, "f"), filepath.Join(w.dir, "filelink")))

	stop := make(chan struct{})
	var racers sync.WaitGroup
	swap := func(a, b string) {
		racers.Go(func() {
			tmp := a + ".tmp"
			for {
				select {
				case <-stop:
					return
				default:
				}
				if os.Rename(a, tmp) == nil && os.Rename(b, a) == nil {
					os.Rename(a, b)
				}
				os.Rename(tmp, a)
			}
		})
	}
	swap(filepath.Join(w.dir, "d"), filepath.Join(w.dir, "link"))
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		d, st := w.lookup(w.root, "d")
		if st != ok {
			continue
		}
		f, st := w.lookup(d, "f")
		if st == ok {
			if b, _, st := w.read(f, 0, 100); st == ok && string(b) == "secret" {
				t.Fatal("read the file outside")
			}
			w.write(f, 0, []byte("inside"), unstable)
			w.setattr(f, sets{mode: p(uint32(0o600)), size: p(uint64(6))})
		}
		w.create(d, "made", unchecked, sets{mode: p(uint32(0o644))})
		w.mkdir(d, "madedir", 0o755)
		w.rename(d, "made", d, "renamed")
	}
	close(stop)
	racers.Wait()
	e, err := os.ReadDir(out)
	must(t, err)
	if len(e) != 1 {
		t.Errorf("made outside: %v", e)
	}
	i, err := os.Stat(filepath.Join(out, "f"))
	must(t, err)
	if b, _ := os.ReadFile(filepath.Join(out, "f")); string(b) != "secret" || i.Mode() != 0o644 {
		t.Errorf("the file outside: %q %v", b, i.Mode())
	}
}

// A file is exchanged for a link to one outside while the guest uses it, by its
// name and by its handle. What is outside is not even read.
func TestSwappedFilesStayInside(t *testing.T) {
	w := newWorld(t)
	base := filepath.Dir(w.dir)
	secret, kept, f := filepath.Join(base, "secret"), filepath.Join(base, "kept"), filepath.Join(w.dir, "f")
	must(t, os.WriteFile(secret, []byte("secret"), 0o640))
	must(t, os.WriteFile(kept, []byte("inside"), 0o644))
	must(t, os.Link(kept, f))
	before, err := statAt(unix.AT_FDCWD, secret)
	must(t, err)

	stop := make(chan struct{})
	var host sync.WaitGroup
	swaps := 0
	host.Go(func() {
		next := filepath.Join(base, "next")
		for ; ; swaps++ {
			select {
			case <-stop:
				return
			default:
			}
			err := errors.Join(os.Symlink(secret, next), os.Rename(next, f), os.Link(kept, next), os.Rename(next, f))
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	went := map[bool]int{} // well, or not
	raced := func() bool { return went[true] >= 100 && went[false] >= 100 }
	start := time.Now()
	for mode := uint32(0o600); time.Since(start) < 2*time.Second || !raced() && time.Since(start) < time.Minute; mode ^= 0o044 {
		h, st := w.lookup(w.root, "f")
		w.want(st, ok)
		for _, use := range []func() status{
			func() status {
				b, _, st := w.read(h, 0, 100)
				if st == ok && string(b) == "secret" {
					t.Fatal("read the file outside")
				}
				return st
			},
			func() status { _, _, st := w.write(h, 0, []byte("inside"), fileSync); return st },
			func() status { return w.setattr(h, sets{size: p(uint64(6))}) },
			func() status { return w.setattr(h, sets{mode: p(mode), uid: p(uint32(5))}) },
			func() status { return w.setattr(h, sets{atime: &stamp{1, 1}, mtime: &stamp{1, 1}}) },
			func() status { _, st := w.commit(h); return st },
			func() status { _, st := w.create(w.root, "f", unchecked, sets{size: p(uint64(6))}); return st },
		} {
			for _, v := range *w.server.volumes.Load() {
				v.files.sweep(time.Now().Add(time.Hour)) // have it open the file anew
			}
			went[use() == ok]++
		}
	}
	close(stop)
	host.Wait()
	if swaps < 100 || !raced() {
		t.Errorf("no race: %d swaps, %d calls went well, %d did not", swaps, went[true], went[false])
	}
	after, err := statAt(unix.AT_FDCWD, secret)
	must(t, err)
	if after != before {
		t.Errorf("the file outside was %+v, and is %+v", before, after)
	}
}

// Handles hold while the host renames what they are for, a thousand times a
// second, and nothing that is written through them is lost.
func TestRenamesDuringUse(t *testing.T) {
	w := newWorld(t)
	d, _ := w.mkdir(w.root, "d", 0o755)
	e, _ := w.mkdir(w.root, "e", 0o755)
	const files = 20
	var handles [files][]byte
	for i := range handles {
		h, st := w.create(d, fmt.Sprintf("f%d-0", i), guarded, sets{})
		w.want(st, ok)
		handles[i] = h
	}
	stop := make(chan struct{})
	var renames int
	var host sync.WaitGroup
	host.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		var at [files]string
		for i := range at {
			at[i] = fmt.Sprintf("d/f%d-0", i)
		}
		for ; ; renames++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			i := renames % files
			to := fmt.Sprintf("%c/f%d-%d", "de"[renames/files%2], i, renames)
			if err := os.Rename(filepath.Join(w.dir, at[i]), filepath.Join(w.dir, to)); err != nil {
				t.Error(err)
			}
			at[i] = to
		}
	})
	var last [files]byte
	for end, n := time.Now().Add(2*time.Second), 0; time.Now().Before(end); n++ {
		i := n % files
		b := []byte{byte(n)}
		if _, _, st := w.write(handles[i], 0, b, unstable); st != ok {
			t.Fatalf("write of file %d: status %d", i, st)
		}
		last[i] = b[0]
		w.list(d, true, 32<<10)
		w.list(e, true, 32<<10)
	}
	close(stop)
	host.Wait()
	if renames < 100 {
		t.Errorf("only %d renames", renames)
	}
	for i, h := range handles {
		b, _, st := w.read(h, 0, 10)
		w.want(st, ok)
		if len(b) != 1 || b[0] != last[i] {
			t.Errorf("file %d has %v, not what was written last, %d", i, b, last[i])
		}
	}
}

// A file is looked for while another call sees it. The race detector's.
func TestSearchBesideUse(t *testing.T) {
	w := newWorld(t)
	_, st := w.create(w.root, "f0", guarded, sets{})
	w.want(st, ok)
	v := w.server.one()
	s, err := statAt(unix.AT_FDCWD, filepath.Join(w.dir, "f0"))
	must(t, err)
	n := v.lookNode(s)
	stop := make(chan struct{})
	var other sync.WaitGroup
	defer other.Wait()
	defer close(stop)
	other.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				v.saw(n)
			}
		}
	})
	for i := range 500 {
		must(t, os.Rename(filepath.Join(w.dir, fmt.Sprintf("f%d", i)), filepath.Join(w.dir, fmt.Sprintf("f%d", i+1))))
		must(t, v.locate(n))
	}
}

// A folder that the host moves out of the share is out of reach soon.
func TestMovedOutOfTheShare(t *testing.T) {
	w := newWorld(t)
	d, _ := w.mkdir(w.root, "d", 0o755)
	f, _ := w.create(d, "f", guarded, sets{})
	_, _, st := w.write(f, 0, []byte("x"), unstable)
	w.want(st, ok)
	must(t, os.Rename(filepath.Join(w.dir, "d"), filepath.Join(filepath.Dir(w.dir), "away")))
	w.becomesStale(f)
	_, st = w.create(d, "g", guarded, sets{})
	w.want(st, errStale)
	_, _, st = w.read(f, 0, 1)
	w.want(st, errStale)
}

// Nor does a guest keep it in reach by going ever deeper into it, nor by moving
// folders of the share into it.
func TestMovedOutAndDugInto(t *testing.T) {
	w := newWorld(t)
	type digging struct {
		name string
		in   []byte // the deepest folder
		next func(in []byte, name string) ([]byte, status)
	}
	diggers := []*digging{
		{name: "makes folders", next: func(in []byte, name string) ([]byte, status) { return w.mkdir(in, name, 0o755) }},
		{name: "brings folders", next: func(in []byte, name string) ([]byte, status) {
			d, st := w.mkdir(w.root, name, 0o755)
			w.want(st, ok)
			return d, w.rename(w.root, name, in, name)
		}},
	}
	out := t.TempDir()
	for i, d := range diggers {
		name := fmt.Sprintf("d%d", i)
		var st status
		d.in, st = w.mkdir(w.root, name, 0o755)
		w.want(st, ok)
		_, st = w.create(d.in, "f", guarded, sets{})
		w.want(st, ok)
		must(t, os.Rename(filepath.Join(w.dir, name), filepath.Join(out, name)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*trust)
	defer cancel()
	depth := 0
	_ = wait.Until(ctx, trust/10, func(context.Context) error { // who still digs then is told below
		depth++
		for _, d := range slices.Clone(diggers) {
			name := fmt.Sprint(depth)
			deeper, st := d.next(d.in, name)
			if st == ok {
				st = w.rename(d.in, "f", deeper, "f")
			}
			if st != ok {
				w.want(st, errStale)
				diggers = slices.DeleteFunc(diggers, func(o *digging) bool { return o == d })
			}
			d.in = deeper
		}
		if len(diggers) > 0 {
			return errors.New("still in reach")
		}
		return nil
	})
	for _, d := range diggers {
		t.Errorf("who %s has reached depth %d outside of the share", d.name, depth)
	}
}

// Of more files than the server remembers every handle holds, and looking at
// them all does not cost reading the directory for each.
func TestMoreFilesThanMemory(t *testing.T) {
	w := newWorld(t)
	v := w.server.one()
	v.maxNodes = 1000
	const n = 20_000
	must(t, os.Mkdir(filepath.Join(w.dir, "big"), 0o755))
	for i := range n {
		f, err := os.Create(filepath.Join(w.dir, "big", fmt.Sprintf("file-%d", i)))
		must(t, err)
		f.Close()
	}
	d := w.find(w.root, "big")
	list := w.list(d, true, maxList)
	if len(list) != n+2 {
		t.Fatalf("%d entries", len(list))
	}
	for _, e := range list {
		if a := w.stat(e.handle); a.id != e.id {
			t.Fatalf("%q: inode %d, not %d", e.name, a.id, e.id)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.nodes) > v.maxNodes+1 {
		t.Errorf("%d nodes are remembered", len(v.nodes))
	}
}

// A directory of 100,000 files takes at most some times as long, per file, as
// one of 10,000.
func TestLargeDirectory(t *testing.T) {
	w := newWorld(t)
	perFile := func(n int) time.Duration {
		t.Helper()
		name := fmt.Sprintf("d%d", n)
		d, st := w.mkdir(w.root, name, 0o755)
		w.want(st, ok)
		for i := range n {
			must(t, os.WriteFile(filepath.Join(w.dir, name, fmt.Sprintf("f%d", i)), nil, 0o644))
		}
		start := time.Now()
		names := map[string]bool{}
		for _, e := range w.list(d, true, 32<<10) {
			names[e.name] = true
		}
		if len(names) != n+2 {
			t.Fatalf("%d names, want %d", len(names), n+2)
		}
		return time.Since(start) / time.Duration(n)
	}
	few, many := perFile(10_000), perFile(100_000)
	t.Logf("per file: %v of 10,000, %v of 100,000", few, many)
	if many > 5*few {
		t.Errorf("per file: %v of 10,000, %v of 100,000", few, many)
	}
}

func TestOwnersOnDisk(t *testing.T) {
	dir := t.TempDir()
	s, err := openSideStore(dir)
	must(t, err)
	at := func(i int) stat { return stat{dev: 1, ino: uint64(i), btime: stamp{int64(i), 5}} }
	for i := range 3000 {
		must(t, s.set(at(i), owner{mode: 0o120777, uid: uint32(i)}))
	}
	for i := range 2990 {
		must(t, s.remove(at(i)))
	}
	must(t, s.close())
	i, err := os.Stat(s.path)
	must(t, err)
	if i.Size() > 5000*sideRecord {
		t.Errorf("the file has %d bytes", i.Size())
	}
	// Killed in the middle of a write.
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("half of a record")
	must(t, errors.Join(err, f.Close()))
	for range 2 {
		s, err = openSideStore(dir)
		must(t, err)
		if len(s.byKey) != 10 {
			t.Fatalf("%d owners", len(s.byKey))
		}
		if o, found := s.get(at(2995)); !found || o.uid != 2995 {
			t.Errorf("%+v %v", o, found)
		}
		other := at(2995)
		other.btime.sec++
		if _, found := s.get(other); found {
			t.Error("a later file of the inode has the owner of the earlier")
		}
		must(t, s.set(at(1), owner{mode: 1}))
		must(t, s.remove(at(1)))
		must(t, s.close())
	}
}

// What guests do leaves files that the host's user can use.
func TestHostKeepsAccess(t *testing.T) {
	w := newWorld(t)
	d, _ := w.mkdir(w.root, "d", 0)
	f, _ := w.create(d, "f", guarded, sets{mode: p(uint32(0))})
	w.want(w.setattr(f, sets{uid: p(uint32(70)), mode: p(uint32(0o4111))}), ok)
	err := filepath.WalkDir(w.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if i.Mode().Perm()&want != want || i.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
			t.Errorf("%s: %v", strings.TrimPrefix(path, w.dir), i.Mode())
		}
		return nil
	})
	must(t, err)
}

// Several guests change the same few names at one time. Whatever a call says,
// the tree stays whole, and what is left can be read.
func TestManyClients(t *testing.T) {
	w := newWorld(t)
	v := w.server.one()
	v.mu.Lock()
	v.maxNodes = 40 // so that nodes are forgotten meanwhile
	v.mu.Unlock()
	var dirs [3][]byte
	for i := range dirs {
		d, st := w.mkdir(w.root, fmt.Sprintf("d%d", i), 0o777)
		w.want(st, ok)
		dirs[i] = d
	}
	var tasks sync.WaitGroup
	for i := range 6 {
		c := dial(t, w.addr)
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		tasks.Go(func() {
			for range 400 {
				dir, to := dirs[rnd.IntN(3)], dirs[rnd.IntN(3)]
				name, other := fmt.Sprintf("n%d", rnd.IntN(12)), fmt.Sprintf("n%d", rnd.IntN(12))
				switch rnd.IntN(10) {
				case 0, 1, 2:
					if h, st := c.create(dir, name, unchecked, sets{mode: p(uint32(0o644))}); st == ok {
						c.write(h, 0, []byte(name), unstable)
						c.setattr(h, sets{uid: p(uint32(rnd.IntN(5)))})
						c.commit(h)
					}
				case 3:
					c.mkdir(dir, name, 0o755)
				case 4:
					c.symlink(dir, name, other)
				case 5:
					c.rename(dir, name, to, other)
				case 6:
					if h, st := c.lookup(dir, name); st == ok {
						c.link(h, to, other)
						c.getattr(h)
						c.read(h, 0, 100)
					}
				case 7:
					c.remove(dir, name)
				case 8:
					c.rmdir(dir, name)
				case 9:
					c.page(dir, 0, true, 8192)
				}
			}
		})
	}
	tasks.Wait()
	for _, d := range dirs {
		for _, e := range w.list(d, true, 8192) {
			if e.name == ".." {
				continue
			}
			if a := w.stat(e.handle); e.attr == nil || a.id != e.id {
				t.Errorf("%q: inode %d, not %d", e.name, a.id, e.id)
			}
		}
	}
	v = w.server.one()
	v.mu.Lock()
	defer v.mu.Unlock()
	kids := map[*node]int{}
	for _, n := range v.nodes {
		if n != v.root {
			kids[n.parent]++
		}
	}
	for _, n := range v.nodes {
		if n.kids != kids[n] {
			t.Errorf("%q has %d children, not %d", n.name, n.kids, kids[n])
		}
	}
}
