//go:build linux || darwin

package nfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostctl/hostctl/internal/wait"
)

var testKey = bytes.Repeat([]byte("0123456789abcdef"), 2)

// world is a server with one export, "code", and a client as the guest's root.
type world struct {
	*client
	dir    string // the share's folder
	state  string
	server *Server
	addr   string
	root   []byte // handle
	stop   func()
}

// coreID is whose files made on the host are.
const coreID = 1000

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	base := t.TempDir()
	w := &world{dir: filepath.Join(base, "share"), state: filepath.Join(base, "state")}
	must(t, os.Mkdir(w.dir, 0o755))
	w.start(t, change...)
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start(t testing.TB, change ...func(*Config)) {
	t.Helper()
	c := Config{Key: testKey, Exports: []Export{{Name: "code", Dir: w.dir, UID: coreID, GID: coreID}}, State: w.state}
	for _, f := range change {
		f(&c)
	}
	s, err := NewServer(c)
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	w.server, w.addr = s, l.Addr().String()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		w.stop = func() {}
	}
	w.client = dial(t, w.addr)
	w.root = w.mountRoot(Path(testKey, "code"))
}

// restart has a new server, as after the agent was killed.
func (w *world) restart(t testing.TB) {
	t.Helper()
	root := w.root
	w.stop()
	w.start(t)
	if !bytes.Equal(root, w.root) {
		t.Fatal("the root has another handle after a restart")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := wait.Until(ctx, time.Millisecond, func(context.Context) error {
		if is() {
			return nil
		}
		return errors.New("not yet")
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// client speaks RFC 1813 over RFC 5531, one call at a time.
type client struct {
	t        testing.TB
	nc       net.Conn
	uid, gid uint32
	groups   []uint32
	machine  string // what the guest calls itself
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { nc.Close() })
	return &client{t: t, nc: nc, machine: "guest"}
}

// as is the client for another user.
func (c *client) as(uid, gid uint32, groups ...uint32) *client {
	o := *c
	o.uid, o.gid, o.groups = uid, gid, groups
	return &o
}

func (c *client) message(prog, vers, proc uint32, args func(w *writer)) []byte {
	var w writer
	for _, v := range [...]uint32{0, nextXID.Add(1), msgCall, 2, prog, vers, proc, authSys} {
		w.u32(v)
	}
	var a writer
	a.u32(7)
	a.str(c.machine)
	a.u32(c.uid)
	a.u32(c.gid)
	a.u32(uint32(len(c.groups)))
	for _, g := range c.groups {
		a.u32(g)
	}
	w.opaque(a.b)
	w.u32(authNone)
	w.u32(0)
	if args != nil {
		args(&w)
	}
	w.end()
	return w.b
}

var nextXID atomic.Uint32

// exchange sends a message and returns what the reply has after the xid.
func exchange(t testing.TB, nc net.Conn, msg []byte) *reader {
	t.Helper()
	_, err := nc.Write(msg)
	must(t, err)
	r := receive(t, nc)
	if xid := r.u32(); xid != binary.BigEndian.Uint32(msg[4:]) {
		t.Fatalf("reply to call %d, not %d", xid, binary.BigEndian.Uint32(msg[4:]))
	}
	return r
}

// receive returns the next reply.
func receive(t testing.TB, nc net.Conn) *reader {
	t.Helper()
	var mark [4]byte
	_, err := io.ReadFull(nc, mark[:])
	must(t, err)
	b := make([]byte, binary.BigEndian.Uint32(mark[:])&^lastFragment)
	_, err = io.ReadFull(nc, b)
	must(t, err)
	return &reader{b: b}
}

func (c *client) rpc(prog, proc uint32, args func(w *writer)) *reader {
	c.t.Helper()
	r := exchange(c.t, c.nc, c.message(prog, version, proc, args))
	if head := [5]uint32{r.u32(), r.u32(), r.u32(), r.u32(), r.u32()}; head != [5]uint32{msgReply, msgAccepted, authNone, 0, acceptSuccess} {
		c.t.Fatalf("program %d, procedure %d: reply %v", prog, proc, head)
	}
	return r
}

func (c *client) nfs(proc uint32, args func(w *writer)) (status, *reader) {
	c.t.Helper()
	r := c.rpc(progNFS, proc, args)
	return status(r.u32()), r
}

func (c *client) mountRoot(path string) []byte {
	c.t.Helper()
	r := c.rpc(progMount, mountMnt, func(w *writer) { w.str(path) })
	if s := r.u32(); s != 0 {
		c.t.Fatalf("mount: %d", s)
	}
	return bytes.Clone(r.opaque(64))
}

// done checks that a reply is used up.
func (c *client) done(r *reader) {
	c.t.Helper()
	if r.bad || len(r.b) != 0 {
		c.t.Fatalf("reply: bad %v, %d bytes left", r.bad, len(r.b))
	}
}

// seen is fattr3.
type seen struct {
	kind, mode, nlink, uid, gid uint32
	size, used                  uint64
	major, minor                uint32
	fsid, id                    uint64
	atime, mtime, ctime         stamp
}

func readStamp(r *reader) stamp { return stamp{int64(r.u32()), r.u32()} }

func readAttr(r *reader) seen {
	return seen{
		r.u32(), r.u32(), r.u32(), r.u32(), r.u32(), r.u64(), r.u64(), r.u32(), r.u32(), r.u64(), r.u64(),
		readStamp(r), readStamp(r), readStamp(r),
	}
}

func readAfter(r *reader) (a seen, there bool) {
	if r.bool() {
		return readAttr(r), true
	}
	return a, false
}

// wcc reads wcc_data and returns whether both halves are there.
func wcc(r *reader) (before, after bool) {
	if before = r.bool(); before {
		r.u64()
		readStamp(r)
		readStamp(r)
	}
	_, after = readAfter(r)
	return before, after
}

func (c *client) getattr(h []byte) (seen, status) {
	c.t.Helper()
	st, r := c.nfs(procGetattr, func(w *writer) { w.opaque(h) })
	var a seen
	if st == ok {
		a = readAttr(r)
	}
	c.done(r)
	return a, st
}

// stat is getattr of what must be there.
func (c *client) stat(h []byte) seen {
	c.t.Helper()
	a, st := c.getattr(h)
	c.want(st, ok)
	return a
}

func (c *client) want(got, want status) {
	c.t.Helper()
	if got != want {
		c.t.Fatalf("status %d, want %d", got, want)
	}
}

func (c *client) lookup(dir []byte, name string) ([]byte, status) {
	c.t.Helper()
	st, r := c.nfs(procLookup, func(w *writer) { w.opaque(dir); w.str(name) })
	var h []byte
	if st == ok {
		h = bytes.Clone(r.opaque(64))
		readAfter(r)
	}
	readAfter(r)
	c.done(r)
	return h, st
}

func (c *client) find(dir []byte, names ...string) []byte {
	c.t.Helper()
	for _, n := range names {
		h, st := c.lookup(dir, n)
		if st != ok {
			c.t.Fatalf("lookup %q: %d", n, st)
		}
		dir = h
	}
	return dir
}

// sets is sattr3 with what is not nil.
type sets struct {
	mode, uid, gid *uint32
	size           *uint64
	atime, mtime   *stamp // a nsec of 1<<31 is the server's time
}

func p[T any](v T) *T { return &v }

var serverNow = &stamp{nsec: 1 << 31}

func (s sets) write(w *writer) {
	for _, v := range [...]*uint32{s.mode, s.uid, s.gid} {
		w.bool(v != nil)
		if v != nil {
			w.u32(*v)
		}
	}
	w.bool(s.size != nil)
	if s.size != nil {
		w.u64(*s.size)
	}
	for _, t := range [...]*stamp{s.atime, s.mtime} {
		switch t {
		case nil:
			w.u32(keepTime)
		case serverNow:
			w.u32(serverTime)
		default:
			w.u32(clientTime)
			w.u32(uint32(t.sec))
			w.u32(t.nsec)
		}
	}
}

func (c *client) setattr(h []byte, s sets) status {
	c.t.Helper()
	return c.setattrGuarded(h, s, nil)
}

func (c *client) setattrGuarded(h []byte, s sets, guard *stamp) status {
	c.t.Helper()
	st, r := c.nfs(procSetattr, func(w *writer) {
		w.opaque(h)
		s.write(w)
		w.bool(guard != nil)
		if guard != nil {
			w.u32(uint32(guard.sec))
			w.u32(guard.nsec)
		}
	})
	wcc(r)
	c.done(r)
	return st
}

// made reads the reply of CREATE, MKDIR, SYMLINK and MKNOD.
func (c *client) made(st status, r *reader) ([]byte, status) {
	c.t.Helper()
	var h []byte
	if st == ok {
		if !r.bool() {
			c.t.Fatal("no handle of what was made")
		}
		h = bytes.Clone(r.opaque(64))
		if _, there := readAfter(r); !there {
			c.t.Fatal("no attributes of what was made")
		}
	}
	before, after := wcc(r)
	if st == ok && (!before || !after) {
		c.t.Fatal("no attributes of the directory")
	}
	c.done(r)
	return h, st
}

func (c *client) create(dir []byte, name string, how uint32, s sets) ([]byte, status) {
	c.t.Helper()
	st, r := c.nfs(procCreate, func(w *writer) { w.opaque(dir); w.str(name); w.u32(how); s.write(w) })
	return c.made(st, r)
}

func (c *client) createExclusive(dir []byte, name string, verifier uint64) ([]byte, status) {
	c.t.Helper()
	st, r := c.nfs(procCreate, func(w *writer) { w.opaque(dir); w.str(name); w.u32(exclusive); w.u64(verifier) })
	return c.made(st, r)
}

func (c *client) mkdir(dir []byte, name string, mode uint32) ([]byte, status) {
	c.t.Helper()
	st, r := c.nfs(procMkdir, func(w *writer) { w.opaque(dir); w.str(name); sets{mode: &mode}.write(w) })
	return c.made(st, r)
}

func (c *client) symlink(dir []byte, name, to string) ([]byte, status) {
	c.t.Helper()
	st, r := c.nfs(procSymlink, func(w *writer) {
		w.opaque(dir)
		w.str(name)
		sets{mode: p(uint32(0o777))}.write(w)
		w.str(to)
	})
	return c.made(st, r)
}

func (c *client) mknod(dir []byte, name string, kind uint32, mode, major, minor uint32) ([]byte, status) {
	c.t.Helper()
	st, r := c.nfs(procMknod, func(w *writer) {
		w.opaque(dir)
		w.str(name)
		w.u32(fileType(kind))
		sets{mode: &mode}.write(w)
		if kind == unix.S_IFCHR || kind == unix.S_IFBLK {
			w.u32(major)
			w.u32(minor)
		}
	})
	return c.made(st, r)
}

func (c *client) remove(dir []byte, name string) status { return c.removeBy(procRemove, dir, name) }
func (c *client) rmdir(dir []byte, name string) status  { return c.removeBy(procRmdir, dir, name) }

func (c *client) removeBy(proc uint32, dir []byte, name string) status {
	c.t.Helper()
	st, r := c.nfs(proc, func(w *writer) { w.opaque(dir); w.str(name) })
	wcc(r)
	c.done(r)
	return st
}

func (c *client) rename(from []byte, name string, to []byte, newName string) status {
	c.t.Helper()
	st, r := c.nfs(procRename, func(w *writer) { w.opaque(from); w.str(name); w.opaque(to); w.str(newName) })
	wcc(r)
	wcc(r)
	c.done(r)
	return st
}

func (c *client) link(h, dir []byte, name string) status {
	c.t.Helper()
	st, r := c.nfs(procLink, func(w *writer) { w.opaque(h); w.opaque(dir); w.str(name) })
	readAfter(r)
	wcc(r)
	c.done(r)
	return st
}

func (c *client) write(h []byte, offset uint64, b []byte, how uint32) (n uint32, verifier uint64, st status) {
	c.t.Helper()
	st, r := c.nfs(procWrite, func(w *writer) {
		w.opaque(h)
		w.u64(offset)
		w.u32(uint32(len(b)))
		w.u32(how)
		w.opaque(b)
	})
	before, after := wcc(r)
	if st == ok {
		if !before || !after {
			c.t.Fatal("WRITE without attributes")
		}
		n = r.u32()
		if got := r.u32(); got != how {
			c.t.Fatalf("written %d, asked for %d", got, how)
		}
		verifier = r.u64()
	}
	c.done(r)
	return n, verifier, st
}

func (c *client) read(h []byte, offset uint64, count uint32) (b []byte, eof bool, st status) {
	c.t.Helper()
	st, r := c.nfs(procRead, func(w *writer) { w.opaque(h); w.u64(offset); w.u32(count) })
	readAfter(r)
	if st == ok {
		n := r.u32()
		eof = r.bool()
		b = bytes.Clone(r.opaque(maxData))
		if int(n) != len(b) {
			c.t.Fatalf("count %d, %d bytes", n, len(b))
		}
	}
	c.done(r)
	return b, eof, st
}

func (c *client) commit(h []byte) (verifier uint64, st status) {
	c.t.Helper()
	st, r := c.nfs(procCommit, func(w *writer) { w.opaque(h); w.u64(0); w.u32(0) })
	wcc(r)
	if st == ok {
		verifier = r.u64()
	}
	c.done(r)
	return verifier, st
}

func (c *client) access(h []byte, asked uint32) uint32 {
	c.t.Helper()
	st, r := c.nfs(procAccess, func(w *writer) { w.opaque(h); w.u32(asked) })
	c.want(st, ok)
	readAfter(r)
	got := r.u32()
	c.done(r)
	return got
}

func (c *client) readlink(h []byte) (string, status) {
	c.t.Helper()
	st, r := c.nfs(procReadlink, func(w *writer) { w.opaque(h) })
	readAfter(r)
	var to string
	if st == ok {
		to = string(r.opaque(4096))
	}
	c.done(r)
	return to, st
}

// listed is an entry of READDIR or READDIRPLUS.
type listed struct {
	id     uint64
	name   string
	cookie uint64
	attr   *seen
	handle []byte
}

func (c *client) page(dir []byte, cookie uint64, plus bool, size uint32) (list []listed, eof bool, st status) {
	c.t.Helper()
	proc := uint32(procReaddir)
	if plus {
		proc = procReaddirplus
	}
	st, r := c.nfs(proc, func(w *writer) {
		w.opaque(dir)
		w.u64(cookie)
		w.u64(0)
		w.u32(size)
		if plus {
			w.u32(size)
		}
	})
	total := len(r.b)
	readAfter(r)
	if st == ok {
		r.u64()
		for r.bool() {
			e := listed{id: r.u64(), name: string(r.opaque(255)), cookie: r.u64()}
			if plus {
				if a, there := readAfter(r); there {
					e.attr = &a
				}
				if r.bool() {
					e.handle = bytes.Clone(r.opaque(64))
				}
			}
			list = append(list, e)
		}
		eof = r.bool()
		if total > int(size) {
			c.t.Fatalf("a list of %d bytes, at most %d are wanted", total, size)
		}
	}
	c.done(r)
	return list, eof, st
}

// list returns a whole directory.
func (c *client) list(dir []byte, plus bool, size uint32) []listed {
	c.t.Helper()
	var all []listed
	var cookie uint64
	for {
		l, eof, st := c.page(dir, cookie, plus, size)
		c.want(st, ok)
		all = append(all, l...)
		if eof {
			return all
		}
		cookie = l[len(l)-1].cookie
	}
}
