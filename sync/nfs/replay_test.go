//go:build linux || darwin

package nfs

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/inode"
)

// replaying is a world with a caller for whom nothing happens.
type replaying struct {
	*world
	replay *Replay
	marked *client
}

func newReplaying(t *testing.T, change ...func(*Config)) *replaying {
	t.Helper()
	replays := NewReplays()
	w := newWorld(t, append(change, func(c *Config) { c.Replays = replays })...)
	r := &replaying{world: w, replay: replays.Begin()}
	r.marked = w.as(0, 0, r.replay.Group())
	return r
}

// snapshot is all that can be seen of the share on the host.
func (w *world) snapshot() string {
	all := ""
	err := filepath.WalkDir(w.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err != nil {
			return err
		}
		is, _ := inode.Of(i)
		all += p + " " + i.Mode().String() + " " + i.ModTime().String() + " " + is.Changed.String() + "\n"
		if i.Mode().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			all += string(b) + "\n"
		}
		return nil
	})
	must(w.t, err)
	return all
}

// makeAny calls CREATE, MKNOD, SYMLINK or MKDIR and returns the new file.
func (c *client) makeAny(proc uint32, dir []byte, name string) ([]byte, seen, status) {
	c.t.Helper()
	st, r := c.nfs(proc, func(w *writer) {
		w.opaque(dir)
		w.str(name)
		switch proc {
		case procCreate:
			w.u32(exclusive)
			w.u64(42)
		case procMknod:
			w.u32(fileType(fifoMode))
			sets{}.write(w)
		case procSymlink:
			sets{}.write(w)
			w.str("elsewhere")
		case procMkdir:
			sets{}.write(w)
		}
	})
	var h []byte
	var a seen
	if st == ok {
		r.bool()
		h = append(h, r.opaque(64)...)
		a, _ = readAfter(r)
	}
	wcc(r)
	c.done(r)
	return h, a, st
}

const fifoMode = 0o010000

// What the host has made is not there for the caller until it has made it, and
// is then what the host has made, whatever the caller calls it.
func TestReplayMakes(t *testing.T) {
	t.Parallel()
	for _, readOnly := range []bool{false, true} {
		w := newReplaying(t, func(c *Config) { c.Exports[0].ReadOnly = readOnly })
		must(t, os.WriteFile(filepath.Join(w.dir, "file"), []byte("contents"), 0o640))
		must(t, os.Symlink("/etc/passwd", filepath.Join(w.dir, "link")))
		must(t, os.MkdirAll(filepath.Join(w.dir, "dir", "in"), 0o755))
		before := w.snapshot()
		w.replay.Expect("code", []Step{
			{Path: "file"}, {Path: "link"}, {Path: "dir", Dir: true}, {Path: "dir/in", Dir: true}, {Path: "gone again"},
		})
		c := w.marked
		for _, f := range []struct {
			name string
			proc uint32
			kind uint32
		}{{"file", procMknod, 1}, {"link", procMknod, 5}, {"dir", procMkdir, 2}} {
			if _, st := c.lookup(w.root, f.name); st != errNoEnt {
				t.Errorf("%s before it is made: %d", f.name, st)
			}
			real := w.find(w.root, f.name) // others see it
			h, a, st := c.makeAny(f.proc, w.root, f.name)
			if st != ok || string(h) != string(real) || a.kind != f.kind {
				t.Errorf("make %s: status %d, kind %d, the same handle: %v", f.name, st, a.kind, string(h) == string(real))
			}
			if h, st := c.lookup(w.root, f.name); st != ok || string(h) != string(real) {
				t.Errorf("%s after it was made: %d", f.name, st)
			}
		}
		dir := c.find(w.root, "dir")
		if _, st := c.lookup(dir, "in"); st != errNoEnt {
			t.Errorf("in before it is made: %d", st)
		}
		if _, _, st := c.makeAny(procMkdir, dir, "in"); st != ok {
			t.Errorf("make in: %d", st)
		}
		for _, proc := range []uint32{procCreate, procMknod, procSymlink, procMkdir} {
			if _, _, st := c.makeAny(proc, w.root, "gone again"); st != errNoEnt {
				t.Errorf("procedure %d of what is not there: %d", proc, st)
			}
		}
		if after := w.snapshot(); after != before {
			t.Errorf("read-only %v: changed from\n%s\nto\n%s", readOnly, before, after)
		}
	}
}

// What is gone is there for the caller until it has removed it, with all that
// was in it.
func TestReplayRemoves(t *testing.T) {
	t.Parallel()
	w := newReplaying(t)
	must(t, os.Mkdir(filepath.Join(w.dir, "now a folder"), 0o755))
	// A folder that is removed before the guest learns of it.
	must(t, os.Mkdir(filepath.Join(w.dir, "late"), 0o755))
	late := w.find(w.root, "late")
	must(t, os.Remove(filepath.Join(w.dir, "late")))
	before := w.snapshot()
	w.replay.Expect("code", []Step{
		{Path: "dir", Removed: true, Dir: true}, {Path: "dir/file", Removed: true}, {Path: "now a folder", Removed: true},
	})
	c := w.marked
	if _, st := w.lookup(w.root, "dir"); st != errNoEnt {
		t.Errorf("others find what is gone: %d", st)
	}
	dir := c.find(w.root, "dir")
	file := c.find(dir, "file")
	if a, again := c.stat(dir), c.find(w.root, "dir"); a.kind != 2 || string(again) != string(dir) {
		t.Errorf("a folder that is gone is of kind %d, and the same twice: %v", a.kind, string(again) == string(dir))
	}
	if a := c.stat(file); a.kind != 1 || a.fsid != w.stat(w.root).fsid {
		t.Errorf("a file that is gone is of kind %d", a.kind)
	}
	if _, st := c.lookup(dir, "never there"); st != errNoEnt {
		t.Errorf("what was never there: %d", st)
	}
	if _, st := w.getattr(file); st != errStale {
		t.Errorf("others use the handle of what is gone: %d", st)
	}
	real := w.find(w.root, "now a folder")
	if h := c.find(w.root, "now a folder"); string(h) == string(real) {
		t.Error("the folder that has a file's name is taken for it")
	}
	for _, f := range []struct {
		proc uint32
		dir  []byte
		name string
	}{{procRemove, dir, "file"}, {procRmdir, w.root, "dir"}, {procRemove, w.root, "now a folder"}} {
		if st := c.removeBy(f.proc, f.dir, f.name); st != ok {
			t.Errorf("remove %s: %d", f.name, st)
		}
	}
	if st := c.removeBy(procRemove, late, "file"); st != ok {
		t.Errorf("remove from a folder that is gone: %d", st)
	}
	w.replay.Expect("code", nil)
	if _, st := c.getattr(file); st != errStale {
		t.Errorf("a handle of what was gone in another turn: %d", st)
	}
	if after := w.snapshot(); after != before {
		t.Errorf("changed from\n%s\nto\n%s", before, after)
	}
}

// A file that was made again before its end was replayed is not gone in the guest
// for a moment: the caller cannot remove it, nor move it aside, whether it had
// looked before or not.
func TestReplayLeavesWhatWasMadeAgain(t *testing.T) {
	t.Parallel()
	w := newReplaying(t)
	w.replay.Expect("code", []Step{{Path: "before", Removed: true}, {Path: "between", Removed: true}})
	c := w.marked
	must(t, os.WriteFile(filepath.Join(w.dir, "before"), nil, 0o600))
	ghost := c.find(w.root, "between")
	must(t, os.WriteFile(filepath.Join(w.dir, "between"), nil, 0o600))
	for _, name := range []string{"before", "between"} {
		if st := c.remove(w.root, name); st != errStale {
			t.Errorf("remove %s: %d", name, st)
		}
		if st := c.rename(w.root, name, w.root, ".nfs1"); st != errStale {
			t.Errorf("rename %s: %d", name, st)
		}
		if h := c.find(w.root, name); string(h) != string(w.find(w.root, name)) || string(h) == string(ghost) {
			t.Errorf("%s is not the file that is there", name)
		}
	}
}

// Nothing that the caller does has an effect.
func TestReplayChangesNothing(t *testing.T) {
	t.Parallel()
	w := newReplaying(t)
	must(t, os.WriteFile(filepath.Join(w.dir, "file"), []byte("contents"), 0o640))
	must(t, os.Mkdir(filepath.Join(w.dir, "dir"), 0o755))
	c := w.marked
	h, dir := c.find(w.root, "file"), c.find(w.root, "dir")
	before, attr := w.snapshot(), w.stat(h)
	for name, do := range map[string]func() status{
		"truncate": func() status { return c.setattr(h, sets{size: p(uint64(0))}) },
		"chmod":    func() status { return c.setattr(h, sets{mode: p(uint32(0o777)), uid: p(uint32(5))}) },
		"utimes":   func() status { return c.setattr(h, sets{mtime: serverNow, atime: &stamp{1, 2}}) },
		"remove":   func() status { return c.removeBy(procRemove, w.root, "file") },
		"rmdir":    func() status { return c.removeBy(procRmdir, w.root, "dir") },
		"rename": func() status {
			st, r := c.nfs(procRename, func(o *writer) { o.opaque(w.root); o.str("file"); o.opaque(dir); o.str("x") })
			wcc(r)
			wcc(r)
			c.done(r)
			return st
		},
	} {
		if st := do(); st != ok {
			t.Errorf("%s: %d", name, st)
		}
	}
	st, r := c.nfs(procWrite, func(o *writer) { o.opaque(h); o.u64(0); o.u32(1); o.u32(fileSync); o.opaque([]byte("x")) })
	wcc(r)
	c.done(r)
	c.want(st, errROFS)
	st, r = c.nfs(procLink, func(o *writer) { o.opaque(h); o.opaque(w.root); o.str("hard") })
	readAfter(r)
	wcc(r)
	c.done(r)
	c.want(st, errROFS)
	if after := w.snapshot(); after != before {
		t.Errorf("changed from\n%s\nto\n%s", before, after)
	}
	if now := w.stat(h); now != attr {
		t.Errorf("attributes %+v, were %+v", now, attr)
	}
	// A program in the guest outlives the replay, and the server.
	w.replay.Close()
	for range 2 {
		for _, proc := range []uint32{procRemove, procRmdir} {
			if st := c.removeBy(proc, w.root, "file"); st != errROFS {
				t.Errorf("remove when the replay has ended: %d", st)
			}
		}
		c.want(c.rename(w.root, "file", w.root, ".nfs1"), errROFS)
		if _, st := c.mkdir(w.root, "made", 0o755); st == ok {
			t.Error("made a folder when the replay has ended")
		}
		if after := w.snapshot(); after != before {
			t.Errorf("changed from\n%s\nto\n%s", before, after)
		}
		w.stop()
		w.start(t, func(c *Config) { c.Replays = NewReplays() })
		c = w.as(0, 0, w.replay.Group())
	}
}

// A guest that calls itself otherwise is another guest.
func TestReplayKnowsWhatItsGuestMade(t *testing.T) {
	t.Parallel()
	w := newReplaying(t)
	other := w.server.replays.Begin()
	w.as(0, 0, w.replay.Group()).getattr(w.root)
	foreign := dial(t, w.addr)
	foreign.machine = "other"
	foreign.as(0, 0, other.Group()).getattr(w.root)

	made := func(p string, created bool) (own, others bool) {
		t.Helper()
		info, err := os.Lstat(filepath.Join(w.dir, p))
		if err != nil {
			info = nil
		}
		w.replay.Settle(context.Background())
		return w.replay.Made("code", p, created, info), other.Made("code", p, created, info)
	}
	check := func(what, p string, created, want bool) {
		t.Helper()
		if own, others := made(p, created); own != want || others {
			t.Errorf("%s: made by the guest: %v, want %v; by another: %v", what, own, want, others)
		}
	}
	w.makeAny(procCreate, w.root, "file")
	check("create", "file", true, true)
	h := w.find(w.root, "file")
	w.nfs(procWrite, func(o *writer) { o.opaque(h); o.u64(0); o.u32(1); o.u32(fileSync); o.opaque([]byte("x")) })
	check("write", "file", false, true)
	w.setattr(h, sets{mode: p(uint32(0o600))})
	check("chmod", "file", false, true)
	w.makeAny(procMkdir, w.root, "dir")
	check("mkdir", "dir", true, true)
	_, r := w.nfs(procRename, func(o *writer) { o.opaque(w.root); o.str("file"); o.opaque(w.find(w.root, "dir")); o.str("x") })
	wcc(r)
	check("rename from", "file", false, true)
	check("rename to", "dir/x", true, true)
	w.nfs(procRename, func(o *writer) { o.opaque(w.root); o.str("dir"); o.opaque(w.root); o.str("moved") })
	check("what was in a folder", "dir/x", false, true)
	check("what is in a folder", "moved/x", true, true)
	w.removeBy(procRemove, w.find(w.root, "moved"), "x")
	check("remove", "moved/x", false, true)

	must(t, os.WriteFile(filepath.Join(w.dir, "moved", "x"), []byte("host"), 0o600))
	check("the host makes it again", "moved/x", true, false)
	must(t, os.Remove(filepath.Join(w.dir, "moved", "x")))
	check("the host removes it", "moved/x", false, false)
}
