//go:build linux || darwin

package nfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAttributesOfHostFiles(t *testing.T) {
	w := newWorld(t)
	must(t, os.WriteFile(filepath.Join(w.dir, "f"), []byte("hello"), 0o600))
	must(t, os.Chmod(filepath.Join(w.dir, "f"), 0o640))
	a := w.stat(w.find(w.root, "f"))
	if a.kind != 1 || a.mode != 0o640 || a.uid != coreID || a.gid != coreID || a.size != 5 || a.nlink != 1 {
		t.Errorf("a file of the host: %+v", a)
	}
	if r := w.stat(w.root); r.kind != 2 || r.uid != coreID || r.id != rootID {
		t.Errorf("the share's folder: %+v", r)
	}
}

func TestCreate(t *testing.T) {
	w := newWorld(t)
	core := w.as(1000, 1000)
	h, st := core.create(w.root, "f", guarded, sets{mode: p(uint32(0o644))})
	w.want(st, ok)
	a := w.stat(h)
	if a.mode != 0o644 || a.uid != 1000 || a.gid != 1000 {
		t.Errorf("created: %+v", a)
	}
	_, st = core.create(w.root, "f", guarded, sets{})
	w.want(st, errExist)
	_, _, st = core.write(h, 0, []byte("hello"), unstable)
	w.want(st, ok)
	again, st := core.create(w.root, "f", unchecked, sets{mode: p(uint32(0o600))})
	w.want(st, ok)
	if !bytes.Equal(again, h) || w.stat(h).size != 5 || w.stat(h).mode != 0o644 {
		t.Error("an UNCHECKED create changed what was there")
	}
	_, st = core.create(w.root, "f", unchecked, sets{size: p(uint64(0))})
	w.want(st, ok)
	if w.stat(h).size != 0 {
		t.Error("an UNCHECKED create with a size of 0 did not truncate")
	}
	_, st = w.as(1001, 1001).create(w.root, "f", unchecked, sets{size: p(uint64(0))})
	w.want(st, errAcces)
	_, st = w.as(1001, 1001).create(w.root, "g", guarded, sets{})
	w.want(st, errAcces)
	for name, want := range map[string]status{
		"": errInval, "a/b": errInval, "a\x00b": errInval, ".": errExist, "..": errExist,
		strings.Repeat("x", 256): errNameTooLong,
	} {
		if _, st := core.create(w.root, name, guarded, sets{}); st != want {
			t.Errorf("create %q: %d, want %d", name, st, want)
		}
	}
	_, st = core.create(h, "x", guarded, sets{})
	w.want(st, errNotDir)
}

func TestNamesOfAnyBytes(t *testing.T) {
	w := newWorld(t)
	var all []byte
	for c := 1; c < 256; c++ {
		if c != '/' {
			all = append(all, byte(c))
		}
	}
	for _, name := range []string{string(all[:200]), string(all[200:]), "\xff\xfe", " ", "a\nb", "...", "-rf"} {
		h, st := w.create(w.root, name, guarded, sets{})
		w.want(st, ok)
		if !bytes.Equal(w.find(w.root, name), h) {
			t.Errorf("%q is another file", name)
		}
		if !slices.ContainsFunc(w.list(w.root, false, 8192), func(l listed) bool { return l.name == name }) {
			t.Errorf("%q is not listed", name)
		}
		w.want(w.remove(w.root, name), ok)
	}
}

func TestExclusiveCreate(t *testing.T) {
	w := newWorld(t)
	h, st := w.createExclusive(w.root, "f", 0x8123456789abcdef)
	w.want(st, ok)
	w.restart(t)
	again, st := w.createExclusive(w.root, "f", 0x8123456789abcdef)
	w.want(st, ok)
	if !bytes.Equal(h, again) {
		t.Error("asking again gave another file")
	}
	_, st = w.createExclusive(w.root, "f", 1)
	w.want(st, errExist)
	w.want(w.setattr(h, sets{mode: p(uint32(0o644)), atime: serverNow, mtime: serverNow}), ok)
	_, st = w.createExclusive(w.root, "f", 0x8123456789abcdef)
	w.want(st, errExist)
}

func TestReadAndWrite(t *testing.T) {
	w := newWorld(t)
	h, st := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o644))})
	w.want(st, ok)
	big := bytes.Repeat([]byte("0123456789abcde\n"), maxData/16)
	for _, how := range []uint32{unstable, dataOnly, fileSync} {
		n, v, st := w.write(h, uint64(how)*maxData, big, how)
		w.want(st, ok)
		if n != maxData || v != w.server.writes.Load() {
			t.Errorf("written %d, verifier %x", n, v)
		}
	}
	v, st := w.commit(h)
	w.want(st, ok)
	if v != w.server.writes.Load() {
		t.Errorf("commit's verifier is %x", v)
	}
	for i := range uint64(3) {
		b, eof, st := w.read(h, i*maxData, maxData)
		w.want(st, ok)
		if !bytes.Equal(b, big) || eof != (i == 2) {
			t.Errorf("read %d: %d bytes, eof %v", i, len(b), eof)
		}
	}
	for _, c := range []struct {
		offset, want uint64
	}{{3*maxData - 3, 3}, {3 * maxData, 0}, {1 << 62, 0}, {1<<64 - 1, 0}} {
		b, eof, st := w.read(h, c.offset, 100)
		w.want(st, ok)
		if uint64(len(b)) != c.want || !eof {
			t.Errorf("at %d: %d bytes, eof %v", c.offset, len(b), eof)
		}
	}
	const far = 5 << 30
	_, _, st = w.write(h, far, []byte("far"), unstable)
	w.want(st, ok)
	if a := w.stat(h); a.size != far+3 || a.used > 64<<20 {
		t.Errorf("a file with a hole: %d bytes, %d used", a.size, a.used)
	}
	b, _, _ := w.read(h, far-2, 10)
	if string(b) != "\x00\x00far" {
		t.Errorf("read %q", b)
	}
	w.want(w.setattr(h, sets{size: p(uint64(4<<30 + 1))}), ok)
	if a := w.stat(h); a.size != 4<<30+1 {
		t.Errorf("truncated to %d", a.size)
	}
	_, _, st = w.write(h, 1<<63-2, []byte("xyz"), unstable)
	w.want(st, errFBig)
	_, _, st = w.read(w.root, 0, 1)
	w.want(st, errIsDir)
	_, _, st = w.write(w.root, 0, []byte("x"), unstable)
	w.want(st, errIsDir)
}

func TestVerifierChangesWithTheServer(t *testing.T) {
	w := newWorld(t)
	h, _ := w.create(w.root, "f", guarded, sets{})
	_, before, st := w.write(h, 0, []byte("x"), unstable)
	w.want(st, ok)
	w.restart(t)
	after, st := w.commit(h)
	w.want(st, ok)
	if before == after {
		t.Error("the guest is not told to write again")
	}
	if err := w.server.synced(unix.EIO); err == nil || w.server.writes.Load() == after {
		t.Error("the guest is not told to write again what the disk lost")
	}
}

func TestPermissions(t *testing.T) {
	w := newWorld(t)
	h, _ := w.as(1000, 1000).create(w.root, "f", guarded, sets{mode: p(uint32(0o640))})
	const all = accessRead | accessModify | accessExtend | accessExecute
	for _, c := range []struct {
		who  *client
		want uint32
	}{
		{w.as(0, 0), accessRead | accessModify | accessExtend},
		{w.as(1000, 5), accessRead | accessModify | accessExtend},
		{w.as(1001, 1000), accessRead},
		{w.as(1001, 5, 7, 1000), accessRead},
		{w.as(1001, 5), 0},
	} {
		if got := c.who.access(h, all); got != c.want {
			t.Errorf("uid %d gid %d %v: %b, want %b", c.who.uid, c.who.gid, c.who.groups, got, c.want)
		}
	}
	_, _, st := w.as(1001, 5).read(h, 0, 1)
	w.want(st, errAcces)
	_, _, st = w.as(1001, 1000).write(h, 0, []byte("x"), unstable)
	w.want(st, errAcces)

	// The mode denies the owner, too, but for what he has open.
	w.want(w.as(1000, 1000).setattr(h, sets{mode: p(uint32(0))}), ok)
	if got := w.as(1000, 1000).access(h, all); got != 0 {
		t.Errorf("mode 0 grants the owner %b", got)
	}
	_, _, st = w.as(1000, 1000).write(h, 0, []byte("x"), unstable)
	w.want(st, ok)
	if i, err := os.Stat(filepath.Join(w.dir, "f")); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("on the host: %v, %v", i, err)
	}

	d, _ := w.mkdir(w.root, "private", 0o700)
	_, st = w.as(1000, 1000).lookup(d, "x")
	w.want(st, errAcces)
	_, _, st = w.as(1000, 1000).page(d, 0, false, 4096)
	w.want(st, errAcces)
}

func TestOwnership(t *testing.T) {
	w := newWorld(t)
	h, _ := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o755))})
	if a := w.stat(h); a.uid != 0 || a.gid != 0 {
		t.Errorf("root's file: %+v", a)
	}
	w.want(w.setattr(h, sets{uid: p(uint32(70)), gid: p(uint32(71))}), ok)
	w.want(w.setattr(h, sets{mode: p(uint32(0o6755))}), ok)
	if a := w.stat(h); a.uid != 70 || a.gid != 71 || a.mode != 0o6755 {
		t.Errorf("after chown and chmod: %+v", a)
	}
	w.restart(t)
	if a := w.stat(h); a.uid != 70 || a.gid != 71 || a.mode != 0o6755 {
		t.Errorf("after a restart: %+v", a)
	}
	i, err := os.Lstat(filepath.Join(w.dir, "f"))
	must(t, err)
	if i.Mode() != 0o755 {
		t.Errorf("on the host: %v", i.Mode())
	}

	// Writing takes setuid from all but root, chown from all.
	_, _, st := w.write(h, 0, []byte("x"), unstable)
	w.want(st, ok)
	if a := w.stat(h); a.mode != 0o6755 {
		t.Errorf("root's write: %o", a.mode)
	}
	_, _, st = w.as(70, 71).write(h, 0, []byte("x"), unstable)
	w.want(st, ok)
	if a := w.stat(h); a.mode != 0o755 {
		t.Errorf("the owner's write: %o", a.mode)
	}
	w.want(w.setattr(h, sets{mode: p(uint32(0o6755))}), ok)
	w.want(w.as(70, 71).setattr(h, sets{gid: p(uint32(71))}), ok)
	if a := w.stat(h); a.mode != 0o755 {
		t.Errorf("chown by the owner: %o", a.mode)
	}

	other := w.as(1000, 1000)
	w.want(other.setattr(h, sets{mode: p(uint32(0o777))}), errPerm)
	w.want(other.setattr(h, sets{uid: p(uint32(1000))}), errPerm)
	w.want(w.as(70, 71).setattr(h, sets{uid: p(uint32(1000))}), errPerm)
	w.want(w.as(70, 71).setattr(h, sets{gid: p(uint32(99))}), errPerm)
	w.want(w.as(70, 71, 99).setattr(h, sets{gid: p(uint32(99))}), ok)
	w.want(w.as(70, 71).setattr(h, sets{mode: p(uint32(0o2755))}), ok)
	if a := w.stat(h); a.mode != 0o755 {
		t.Errorf("setgid for a group that the owner is not in: %o", a.mode)
	}

	// The host's user changes the mode: that is what counts.
	must(t, os.Chmod(filepath.Join(w.dir, "f"), 0o600))
	if a := w.stat(h); a.mode != 0o600 || a.uid != 70 {
		t.Errorf("after a chmod on the host: %+v", a)
	}
	// Back to what needs nothing beside it.
	w.want(w.setattr(h, sets{uid: p(uint32(coreID)), gid: p(uint32(coreID)), mode: p(uint32(0o644))}), ok)
	if _, err := unix.Lgetxattr(filepath.Join(w.dir, "f"), xattr, make([]byte, 100)); err == nil {
		t.Error("something is kept beside a plain file")
	}
}

// On a file system without extended attributes all is in the side store.
func TestOwnershipWithoutAttributes(t *testing.T) {
	w := newWorld(t)
	bare := func() {
		w.server.one().bare.Store(w.server.one().rootDev + 1)
	}
	bare()
	h, st := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o4711))})
	w.want(st, ok)
	d, st := w.mkdir(w.root, "d", 0o1777)
	w.want(st, ok)
	dev, st := w.mknod(d, "null", unix.S_IFCHR, 0o666, 1, 3)
	w.want(st, ok)
	w.want(w.setattr(h, sets{uid: p(uint32(70)), gid: p(uint32(71))}), ok)
	w.want(w.setattr(h, sets{mode: p(uint32(0o4711))}), ok)
	for range 2 {
		if a := w.stat(h); a.uid != 70 || a.gid != 71 || a.mode != 0o4711 {
			t.Errorf("the file: %+v", a)
		}
		if a := w.stat(d); a.uid != 0 || a.mode != 0o1777 {
			t.Errorf("the directory: %+v", a)
		}
		if a := w.stat(dev); a.kind != fileType(unix.S_IFCHR) || a.major != 1 || a.minor != 3 || a.mode != 0o666 {
			t.Errorf("the device: %+v", a)
		}
		if _, err := unix.Lgetxattr(filepath.Join(w.dir, "f"), xattr, make([]byte, 100)); err == nil {
			t.Error("there is an attribute")
		}
		w.restart(t)
		bare()
	}
	w.want(w.remove(d, "null"), ok)
	w.want(w.rmdir(w.root, "d"), ok)
	w.want(w.remove(w.root, "f"), ok)
	if n := len(w.server.side.byKey); n != 0 {
		t.Errorf("%d owners are left", n)
	}
}

func TestOwnerOfSymlink(t *testing.T) {
	w := newWorld(t)
	h, st := w.symlink(w.root, "l", "/etc/passwd")
	w.want(st, ok)
	if a := w.stat(h); a.kind != 5 || a.uid != 0 {
		t.Errorf("root's link: %+v", a)
	}
	before := w.stat(h)
	w.want(w.setattr(h, sets{uid: p(uint32(70)), gid: p(uint32(71))}), ok)
	if a := w.stat(h); a.uid != 70 || a.gid != 71 || a.ctime == before.ctime || a.mtime != before.mtime {
		t.Errorf("after lchown: %+v, before %+v", a, before)
	}
	w.restart(t)
	if a := w.stat(h); a.uid != 70 || a.gid != 71 {
		t.Errorf("after a restart: %+v", a)
	}
	w.want(w.setattr(h, sets{atime: &stamp{1, 2}, mtime: &stamp{3, 4}}), ok)
	if a := w.stat(h); a.atime != (stamp{1, 2}) || a.mtime != (stamp{3, 4}) {
		t.Errorf("times of a link: %+v", a)
	}
	if to, st := w.readlink(h); st != ok || to != "/etc/passwd" {
		t.Errorf("readlink: %q %d", to, st)
	}
	_, st = w.readlink(w.root)
	w.want(st, errInval)
	w.want(w.remove(w.root, "l"), ok)
	if len(w.server.side.byKey) != 0 {
		t.Errorf("owners are left: %v", w.server.side.byKey)
	}
}

func TestSpecialFiles(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		kind         uint32
		major, minor uint32
	}{{unix.S_IFIFO, 0, 0}, {unix.S_IFSOCK, 0, 0}, {unix.S_IFCHR, 1, 3}, {unix.S_IFBLK, 8, 1}} {
		name := fmt.Sprintf("%o", c.kind)
		h, st := w.mknod(w.root, name, c.kind, 0o644, c.major, c.minor)
		w.want(st, ok)
		w.want(w.setattr(h, sets{uid: p(uint32(5)), mode: p(uint32(0o600))}), ok)
		a := w.stat(h)
		if a.kind != fileType(c.kind) || a.major != c.major || a.minor != c.minor || a.uid != 5 || a.mode != 0o600 || a.size != 0 {
			t.Errorf("%s: %+v", name, a)
		}
		if i, err := os.Lstat(filepath.Join(w.dir, name)); err != nil || !i.Mode().IsRegular() {
			t.Errorf("%s on the host: %v %v", name, i, err)
		}
		_, _, st = w.read(h, 0, 1)
		w.want(st, errInval)
		w.want(w.setattr(h, sets{size: p(uint64(0))}), errInval)
	}
	_, st := w.as(1000, 1000).mknod(w.root, "dev", unix.S_IFCHR, 0o600, 1, 3)
	w.want(st, errPerm)
	_, st = w.as(1000, 1000).mknod(w.root, "pipe", unix.S_IFIFO, 0o600, 0, 0)
	w.want(st, ok)
	_, st = w.mknod(w.root, "reg", unix.S_IFREG, 0o600, 0, 0)
	w.want(st, errBadType)

	// The host's own are shown, and never opened.
	must(t, unix.Mkfifo(filepath.Join(w.dir, "hostpipe"), 0o644))
	h := w.find(w.root, "hostpipe")
	_, _, st = w.read(h, 0, 1)
	w.want(st, errInval)
	w.want(w.setattr(h, sets{mode: p(uint32(0o600)), uid: p(uint32(5))}), ok)
	if a := w.stat(h); a.kind != 7 || a.mode != 0o600 || a.uid != 5 {
		t.Errorf("the host's fifo: %+v", a)
	}
}

func TestDirectories(t *testing.T) {
	w := newWorld(t)
	d, st := w.mkdir(w.root, "d", 0o755)
	w.want(st, ok)
	_, st = w.mkdir(w.root, "d", 0o755)
	w.want(st, errExist)
	f, st := w.create(d, "f", guarded, sets{})
	w.want(st, ok)
	w.want(w.rmdir(w.root, "d"), errNotEmpty)
	w.want(w.remove(w.root, "d"), errIsDir)
	w.want(w.rmdir(d, "f"), errNotDir)
	w.want(w.rmdir(d, "."), errInval)
	w.want(w.rmdir(d, ".."), errNotEmpty)
	w.want(w.rmdir(d, "none"), errNoEnt)
	w.want(w.remove(f, "x"), errNotDir)
	w.want(w.remove(d, "f"), ok)
	_, st = w.getattr(f)
	w.want(st, errStale)
	w.want(w.rmdir(w.root, "d"), ok)
	_, st = w.getattr(d)
	w.want(st, errStale)
	_, st = w.create(d, "f", guarded, sets{})
	w.want(st, errStale)
}

func TestSetgidDirectory(t *testing.T) {
	w := newWorld(t)
	d, _ := w.mkdir(w.root, "d", 0o777)
	w.want(w.setattr(d, sets{gid: p(uint32(50)), mode: p(uint32(0o2777))}), ok)
	core := w.as(1000, 1000)
	f, _ := core.create(d, "f", guarded, sets{mode: p(uint32(0o2755))})
	if a := w.stat(f); a.gid != 50 || a.mode != 0o755 {
		t.Errorf("a file: %+v", a)
	}
	s, _ := core.mkdir(d, "s", 0o755)
	if a := w.stat(s); a.gid != 50 || a.mode != 0o2755 {
		t.Errorf("a directory: %+v", a)
	}
}

func TestStickyDirectory(t *testing.T) {
	w := newWorld(t)
	d, _ := w.mkdir(w.root, "tmp", 0o777)
	w.want(w.setattr(d, sets{mode: p(uint32(0o1777))}), ok)
	one, two := w.as(1001, 1001), w.as(1002, 1002)
	for _, n := range []string{"a", "b"} {
		_, st := one.create(d, n, guarded, sets{mode: p(uint32(0o666))})
		w.want(st, ok)
	}
	_, st := two.create(d, "c", guarded, sets{})
	w.want(st, ok)
	w.want(two.remove(d, "a"), errPerm)
	w.want(two.rename(d, "a", d, "x"), errPerm)
	w.want(two.rename(d, "c", d, "a"), errPerm)
	w.want(one.rename(d, "a", d, "b"), ok)
	w.want(one.remove(d, "b"), ok)
	w.want(w.remove(d, "c"), ok)
}

func TestRename(t *testing.T) {
	w := newWorld(t)
	a, _ := w.mkdir(w.root, "a", 0o755)
	b, _ := w.mkdir(w.root, "b", 0o755)
	sub, _ := w.mkdir(a, "sub", 0o755)
	f, _ := w.create(sub, "f", guarded, sets{})
	w.want(w.rename(w.root, "a", w.root, "a"), ok)
	w.want(w.rename(w.root, "a", sub, "x"), errInval)
	w.want(w.rename(w.root, "none", sub, "x"), errNoEnt)
	w.want(w.rename(w.root, ".", sub, "x"), errInval)
	w.want(w.rename(a, "sub", b, "moved"), ok)
	if got := w.find(w.root, "b", "moved", "f"); !bytes.Equal(got, f) {
		t.Error("the handle of what is in a folder changed with the folder's name")
	}
	w.stat(f)
	w.stat(sub)
	up := w.find(sub, "..")
	if !bytes.Equal(up, b) {
		t.Error(".. is where the folder was")
	}

	g, _ := w.create(w.root, "g", guarded, sets{})
	over, _ := w.create(w.root, "over", guarded, sets{})
	w.want(w.rename(w.root, "g", w.root, "over"), ok)
	if got := w.find(w.root, "over"); !bytes.Equal(got, g) {
		t.Error("rename over: another handle")
	}
	_, st := w.getattr(over)
	w.want(st, errStale)
	w.want(w.rename(w.root, "over", w.root, "b"), errIsDir)
	w.want(w.rename(w.root, "b", w.root, "over"), errNotDir)
	_, st = w.mkdir(w.root, "c", 0o755)
	w.want(st, ok)
	w.want(w.rename(w.root, "c", w.root, "b"), errNotEmpty)

	// A directory that changes its parent needs to be writable itself.
	dirs := w.as(1000, 1000)
	d, _ := dirs.mkdir(w.root, "d1", 0o777)
	e, _ := dirs.mkdir(w.root, "d2", 0o777)
	_, st = w.mkdir(d, "roots", 0o755)
	w.want(st, ok)
	w.want(dirs.rename(d, "roots", e, "roots"), errAcces)
	w.want(dirs.rename(d, "roots", d, "roots2"), ok)
}

func TestHardLinks(t *testing.T) {
	w := newWorld(t)
	d, _ := w.mkdir(w.root, "d", 0o755)
	f, _ := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o644))})
	w.want(w.link(f, d, "g"), ok)
	if a := w.stat(f); a.nlink != 2 {
		t.Errorf("%d links", a.nlink)
	}
	if got := w.find(d, "g"); !bytes.Equal(got, f) {
		t.Error("a link has another handle")
	}
	w.want(w.link(f, d, "g"), errExist)
	w.want(w.link(d, w.root, "h"), errPerm)
	w.want(w.link(f, d, "."), errExist)
	w.want(w.link(f, f, "x"), errNotDir)
	w.want(w.as(1001, 1001).link(f, d, "x"), errAcces)
	w.want(w.rename(w.root, "f", d, "g"), ok) // both are one file: nothing happens
	w.want(w.remove(w.root, "f"), ok)
	if a := w.stat(f); a.nlink != 1 {
		t.Errorf("%d links after one is gone", a.nlink)
	}
	w.want(w.rename(d, "g", w.root, "h"), ok)
	w.stat(f)
	w.want(w.remove(w.root, "h"), ok)
	_, st := w.getattr(f)
	w.want(st, errStale)
}

func TestSetattr(t *testing.T) {
	w := newWorld(t)
	h, _ := w.as(1000, 1000).create(w.root, "f", guarded, sets{mode: p(uint32(0o644))})
	a := w.stat(h)
	w.want(w.setattrGuarded(h, sets{mode: p(uint32(0o600))}, &stamp{a.ctime.sec - 1, 0}), errNotSync)
	w.want(w.setattrGuarded(h, sets{mode: p(uint32(0o600))}, &a.ctime), ok)
	w.want(w.setattr(h, sets{atime: &stamp{1000, 1}, mtime: &stamp{2000, 2}}), ok)
	if a := w.stat(h); a.atime != (stamp{1000, 1}) || a.mtime != (stamp{2000, 2}) || a.ctime.sec == 2000 {
		t.Errorf("times: %+v", a)
	}
	w.want(w.setattr(h, sets{mtime: serverNow}), ok)
	if a := w.stat(h); time.Since(time.Unix(a.mtime.sec, 0)) > time.Hour || a.atime.sec != 1000 {
		t.Errorf("times: %+v", a)
	}
	other := w.as(1001, 1001)
	w.want(other.setattr(h, sets{mtime: &stamp{1, 1}}), errPerm)
	w.want(other.setattr(h, sets{mtime: serverNow}), errAcces)
	w.want(w.setattr(h, sets{mode: p(uint32(0o666))}), ok)
	w.want(other.setattr(h, sets{mtime: serverNow}), ok)
	w.want(other.setattr(h, sets{mtime: &stamp{1, 1}}), errPerm)
	w.want(other.setattr(h, sets{size: p(uint64(10))}), ok)
	w.want(w.setattr(h, sets{mode: p(uint32(0o644))}), ok)
	w.want(other.setattr(h, sets{size: p(uint64(0))}), errAcces)
	w.want(w.setattr(w.root, sets{size: p(uint64(0))}), errIsDir)
	before := w.stat(h)
	w.want(w.setattr(h, sets{mode: p(uint32(0o644))}), ok)
	if a := w.stat(h); a.mtime != before.mtime || a.mode != 0o644 {
		t.Errorf("chmod to the same: %+v", a)
	}
}

func TestLookup(t *testing.T) {
	w := newWorld(t)
	d, _ := w.mkdir(w.root, "d", 0o755)
	f, _ := w.create(d, "f", guarded, sets{})
	for name, want := range map[string]status{
		"none": errNoEnt, "": errInval, "a/b": errInval, "../x": errInval, strings.Repeat("x", 256): errNameTooLong,
	} {
		if _, st := w.lookup(d, name); st != want {
			t.Errorf("lookup %q: %d, want %d", name, st, want)
		}
	}
	_, st := w.lookup(f, "x")
	w.want(st, errNotDir)
	if got := w.find(d, ".."); !bytes.Equal(got, w.root) {
		t.Error(".. is not the root")
	}
	if got := w.find(w.root, "..", "..", "."); !bytes.Equal(got, w.root) {
		t.Error(".. of the root is something else")
	}
}

func TestFileSystemCalls(t *testing.T) {
	w := newWorld(t)
	st, r := w.nfs(procFsstat, func(x *writer) { x.opaque(w.root) })
	w.want(st, ok)
	readAfter(r)
	total, free, avail, files := r.u64(), r.u64(), r.u64(), r.u64()
	if total == 0 || free > total || avail > total || files == 0 {
		t.Errorf("fsstat: %d %d %d %d", total, free, avail, files)
	}
	st, r = w.nfs(procFsinfo, func(x *writer) { x.opaque(w.root) })
	w.want(st, ok)
	readAfter(r)
	if rtmax := r.u32(); rtmax != 1<<20 {
		t.Errorf("rtmax is %d", rtmax)
	}
	st, r = w.nfs(procPathconf, func(x *writer) { x.opaque(w.root) })
	w.want(st, ok)
	readAfter(r)
	if links, name := r.u32(), r.u32(); links < 1000 || name != 255 {
		t.Errorf("pathconf: %d links, names of %d", links, name)
	}
}

func TestReadOnly(t *testing.T) {
	w := newWorld(t)
	f, _ := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o666))})
	d, _ := w.mkdir(w.root, "d", 0o755)
	w.stop()
	w.start(t, func(c *Config) { c.Exports[0].ReadOnly = true })
	_, st := w.create(w.root, "x", guarded, sets{})
	w.want(st, errROFS)
	_, st = w.mkdir(w.root, "x", 0o755)
	w.want(st, errROFS)
	_, _, st = w.write(f, 0, []byte("x"), unstable)
	w.want(st, errROFS)
	w.want(w.setattr(f, sets{mode: p(uint32(0o600))}), errROFS)
	w.want(w.remove(w.root, "f"), errROFS)
	w.want(w.rmdir(w.root, "d"), errROFS)
	w.want(w.rename(w.root, "f", d, "f"), errROFS)
	w.want(w.link(f, d, "f"), errROFS)
	if got := w.access(f, accessRead|accessModify); got != accessRead {
		t.Errorf("access: %b", got)
	}
	_, _, st = w.read(f, 0, 10)
	w.want(st, ok)
}

func TestReaddir(t *testing.T) {
	w := newWorld(t)
	want := []string{".", ".."}
	for i := range 300 {
		name := fmt.Sprintf("a-name-that-is-not-short-%03d", i)
		want = append(want, name)
		_, st := w.create(w.root, name, guarded, sets{mode: p(uint32(0o640))})
		w.want(st, ok)
	}
	slices.Sort(want)
	for _, plus := range []bool{false, true} {
		var names []string
		for _, e := range w.list(w.root, plus, 4096) {
			names = append(names, e.name)
			if !plus {
				continue
			}
			if e.attr == nil || e.attr.id != e.id {
				t.Fatalf("%q: %+v", e.name, e.attr)
			}
			if a := w.stat(e.handle); a != *e.attr {
				t.Fatalf("%q: %+v and %+v", e.name, a, *e.attr)
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("plus %v: %d names, want %d", plus, len(names), len(want))
		}
	}
	// What is removed meanwhile does not hide the rest.
	left, cookie, eof := len(want)-2, uint64(0), false
	for !eof {
		var l []listed
		var st status
		l, eof, st = w.page(w.root, cookie, false, 2048)
		w.want(st, ok)
		for _, e := range l {
			cookie = e.cookie
			if e.name != "." && e.name != ".." {
				w.want(w.remove(w.root, e.name), ok)
				left--
			}
		}
	}
	if left != 0 {
		t.Errorf("%d files are left", left)
	}
	_, _, st := w.page(w.root, 0, false, 16)
	w.want(st, errTooSmall)
	f, _ := w.create(w.root, "f", guarded, sets{})
	_, _, st = w.page(f, 0, false, 4096)
	w.want(st, errNotDir)
}
