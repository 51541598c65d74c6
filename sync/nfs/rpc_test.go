//go:build linux || darwin

package nfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMountNeedsThePath(t *testing.T) {
	w := newWorld(t)
	token := strings.Split(Path(testKey, "code"), "/")[1]
	for _, path := range []string{
		"", "/", "/code", "code", "/" + token, "/" + token + "/", "/" + token + "/code/", "/" + token + "/other",
		"/" + token[:31] + "x/code", w.dir, Path(bytes.Repeat([]byte("x"), 32), "code"), Path(testKey, "code")[1:],
	} {
		r := w.rpc(progMount, mountMnt, func(x *writer) { x.str(path) })
		if s := r.u32(); s != mountErrAcces {
			t.Errorf("mount %q: %d", path, s)
		}
		w.done(r)
	}
	if Path(testKey, "a")[:33] == Path(testKey, "b")[:33] {
		t.Error("two exports have one token")
	}
	for _, proc := range []uint32{mountDump, mountExport} {
		r := w.rpc(progMount, proc, nil)
		if r.bool() {
			t.Errorf("procedure %d lists something", proc)
		}
		w.done(r)
	}
	w.done(w.rpc(progMount, mountNull, nil))
	w.done(w.rpc(progMount, mountUmnt, func(x *writer) { x.str(Path(testKey, "code")) }))
	w.done(w.rpc(progMount, mountUmntAll, nil))
}

func TestForgedHandles(t *testing.T) {
	w := newWorld(t)
	w.want(func() status { _, st := w.getattr(w.root); return st }(), ok)
	d, st := w.mkdir(w.root, "d", 0o755)
	w.want(st, ok)
	for _, h := range [][]byte{w.root, d} {
		for bit := range len(h) * 8 {
			forged := bytes.Clone(h)
			forged[bit/8] ^= 1 << (bit % 8)
			if _, st := w.getattr(forged); st != errBadHandle {
				t.Fatalf("bit %d changed: %d", bit, st)
			}
		}
		for n := range h {
			if _, st := w.getattr(h[:n]); st != errBadHandle {
				t.Fatalf("%d bytes: %d", n, st)
			}
		}
		if _, st := w.getattr(append(bytes.Clone(h), 0)); st != errBadHandle {
			t.Fatalf("a byte more: %d", st)
		}
	}
	other := newSealer(derive(bytes.Repeat([]byte("x"), 32), "handles", ""))
	_, st = w.getattr(other.append(nil, w.server.one().export, rootID, 0, ""))
	w.want(st, errBadHandle)
	_, st = w.getattr(w.server.seal.append(nil, 12345, rootID, 0, ""))
	w.want(st, errStale)
}

func (s *Server) one() *volume {
	for _, v := range *s.volumes.Load() {
		return v
	}
	return nil
}

func TestRPCFaults(t *testing.T) {
	w := newWorld(t)
	reply := func(msg []byte) []uint32 {
		t.Helper()
		r := exchange(t, w.nc, msg)
		var v []uint32
		for len(r.b) > 0 {
			v = append(v, r.u32())
		}
		return v
	}
	for _, c := range []struct {
		name string
		msg  []byte
		want []uint32
	}{
		{"unknown program", w.message(100000, 2, 0, nil), []uint32{1, 0, 0, 0, acceptProgUnavail}},
		{"NFS version 4", w.message(progNFS, 4, 0, nil), []uint32{1, 0, 0, 0, acceptProgMismatch, 3, 3}},
		{"unknown procedure", w.message(progNFS, 3, 22, nil), []uint32{1, 0, 0, 0, acceptProcUnavail}},
		{"unknown procedure of MOUNT", w.message(progMount, 3, 6, nil), []uint32{1, 0, 0, 0, acceptProcUnavail}},
		{"no arguments", w.message(progNFS, 3, procGetattr, nil), []uint32{1, 0, 0, 0, acceptGarbageArgs}},
		{"null", w.message(progNFS, 3, 0, nil), []uint32{1, 0, 0, 0, acceptSuccess}},
		{"a handle that is too long", w.message(progNFS, 3, procGetattr, func(x *writer) { x.opaque(make([]byte, 65)) }),
			[]uint32{1, 0, 0, 0, acceptGarbageArgs}},
		{"an opaque of 4 GiB", w.message(progNFS, 3, procLookup, func(x *writer) { x.opaque(w.root); x.u32(0xffffffff) }),
			[]uint32{1, 0, 0, 0, acceptGarbageArgs}},
	} {
		if got := reply(c.msg); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	msg := w.message(progNFS, 3, 0, nil)
	binary.BigEndian.PutUint32(msg[12:], 3)
	if got := reply(msg); !slices.Equal(got, []uint32{1, 1, rejectRPCMismatch, 2, 2}) {
		t.Errorf("RPC version 3: %v", got)
	}
	msg = w.message(progNFS, 3, 0, nil)
	binary.BigEndian.PutUint32(msg[28:], 6)
	if got := reply(msg); !slices.Equal(got, []uint32{1, 1, rejectAuthError, authTooWeak}) {
		t.Errorf("RPCSEC_GSS: %v", got)
	}
}

func TestFragments(t *testing.T) {
	w := newWorld(t)
	msg := w.message(progNFS, 3, procGetattr, func(x *writer) { x.opaque(w.root) })
	var cut []byte
	body := msg[4:]
	for len(body) > 0 {
		n := min(7, len(body))
		mark := uint32(n)
		if n == len(body) {
			mark |= lastFragment
		}
		cut = binary.BigEndian.AppendUint32(cut, mark)
		cut = append(cut, body[:n]...)
		body = body[n:]
	}
	xid := binary.BigEndian.Uint32(msg[4:])
	_, err := w.nc.Write(cut)
	must(t, err)
	b := make([]byte, 32)
	_, err = io.ReadFull(w.nc, b)
	must(t, err)
	if got := binary.BigEndian.Uint32(b[4:]); got != xid {
		t.Errorf("xid %d, want %d", got, xid)
	}
}

// A stranger gets no memory by announcing a large message.
func TestStrangersAreCutOff(t *testing.T) {
	w := newWorld(t)
	h, _ := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o644))})
	data := make([]byte, 100_000)
	ends := func(name string, msg []byte) {
		t.Helper()
		c := dial(t, w.addr)
		must(t, c.nc.SetDeadline(time.Now().Add(20*time.Second)))
		_, _ = c.nc.Write(msg) // it may be cut off in the middle
		if _, err := io.Copy(io.Discard, c.nc); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: not cut off", name)
			}
		}
	}
	write := func(h []byte) []byte {
		return w.message(progNFS, 3, procWrite, func(x *writer) {
			x.opaque(h)
			x.u64(0)
			x.u32(uint32(len(data)))
			x.u32(unstable)
			x.opaque(data)
		})
	}
	forged := bytes.Clone(h)
	forged[len(forged)-1]++
	ends("a forged handle", write(forged))
	ends("nothing of RPC", append([]byte{0x80, 0x10, 0, 0}, make([]byte, 8<<10)...))
	ends("4 GiB", []byte{0xff, 0xff, 0xff, 0xff})
	// A guest that connects anew begins with what it was at.
	c := dial(t, w.addr)
	r := exchange(t, c.nc, write(h))
	if got := []uint32{r.u32(), r.u32(), r.u32(), r.u32(), r.u32(), r.u32()}; !slices.Equal(got, []uint32{msgReply, msgAccepted, authNone, 0, acceptSuccess, uint32(ok)}) {
		t.Errorf("a guest's first WRITE: %v", got)
	}
}

// What was asked twice, as after a broken connection, is done once.
func TestRepeatedCalls(t *testing.T) {
	w := newWorld(t)
	_, st := w.create(w.root, "f", guarded, sets{})
	w.want(st, ok)
	msg := w.message(progNFS, version, procRemove, func(x *writer) { x.opaque(w.root); x.str("f") })
	again := dial(t, w.addr)
	var replies [3][]byte
	for i, nc := range []net.Conn{w.nc, w.nc, again.nc} {
		r := exchange(t, nc, msg)
		replies[i] = bytes.Clone(r.b)
	}
	if s := status(binary.BigEndian.Uint32(replies[0][20:])); s != ok {
		t.Fatalf("remove: %d", s)
	}
	if !bytes.Equal(replies[0], replies[1]) || !bytes.Equal(replies[0], replies[2]) {
		t.Error("the second time has another reply")
	}
	if st := w.remove(w.root, "f"); st != errNoEnt {
		t.Errorf("another call: %d", st)
	}
}

// Calls of one connection run beside each other.
func TestPipelinedCalls(t *testing.T) {
	w := newWorld(t)
	h, _ := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o644))})
	const n = 100
	want := map[uint32]bool{}
	var all []byte
	for i := range n {
		msg := w.message(progNFS, version, procWrite, func(x *writer) {
			b := bytes.Repeat([]byte{byte(i)}, 64<<10)
			x.opaque(h)
			x.u64(uint64(i) * 64 << 10)
			x.u32(uint32(len(b)))
			x.u32(unstable)
			x.opaque(b)
		})
		want[binary.BigEndian.Uint32(msg[4:])] = true
		all = append(all, msg...)
	}
	var sent sync.WaitGroup
	sent.Go(func() { w.nc.Write(all) })
	for range n {
		var head [8]byte
		_, err := io.ReadFull(w.nc, head[:])
		must(t, err)
		b := make([]byte, binary.BigEndian.Uint32(head[:])&^lastFragment-4)
		_, err = io.ReadFull(w.nc, b)
		must(t, err)
		delete(want, binary.BigEndian.Uint32(head[4:]))
	}
	sent.Wait()
	if len(want) != 0 {
		t.Errorf("%d calls have no reply", len(want))
	}
	for i := range uint64(n) {
		b, _, st := w.read(h, i*64<<10, 64<<10)
		w.want(st, ok)
		if !bytes.Equal(b, bytes.Repeat([]byte{byte(i)}, 64<<10)) {
			t.Fatalf("block %d is not what was written", i)
		}
	}
}

// Guests keep their connections, and what they have of other exports, when
// exports come and go. One that is gone is so at once.
func TestExportsChange(t *testing.T) {
	w := newWorld(t)
	code := Export{Name: "code", Dir: w.dir, UID: coreID, GID: coreID}
	data := Export{Name: "data", Dir: t.TempDir(), UID: 500, GID: 500}
	h, st := w.create(w.root, "f", guarded, sets{})
	w.want(st, ok)
	must(t, w.server.Export([]Export{code, data}))
	kept := w.server.volume(exportID(testKey, "code"))
	other := w.mountRoot(Path(testKey, "data"))
	for of, uid := range map[string]uint32{string(w.root): coreID, string(other): 500} {
		if a, st := w.getattr([]byte(of)); st != ok || a.uid != uid {
			t.Errorf("owner %d, want %d (%d)", a.uid, uid, st)
		}
	}

	// What is wrong with one changes nothing.
	if err := w.server.Export([]Export{code, {Name: "none", Dir: w.dir + "/none"}}); err == nil {
		t.Error("a folder that is missing is served")
	}
	_, st = w.getattr(other)
	w.want(st, ok)

	must(t, w.server.Export([]Export{code}))
	_, st = w.getattr(other)
	w.want(st, errStale)
	if now := w.server.volume(exportID(testKey, "code")); now != kept {
		t.Error("an export that stays was opened anew")
	}

	// Without any the server still answers.
	must(t, w.server.Export(nil))
	_, st = w.getattr(h)
	w.want(st, errStale)
	_, _, st = w.write(h, 0, []byte("late"), fileSync)
	w.want(st, errStale)
	r := w.rpc(progMount, mountMnt, func(x *writer) { x.str(Path(testKey, "code")) })
	if st := r.u32(); st != mountErrAcces {
		t.Errorf("mount: %d", st)
	}

	// What is still to come guests wait for.
	w.server.Await([]string{"code"})
	_, st = w.getattr(h)
	w.want(st, errJukebox)
	_, st = w.getattr(other)
	w.want(st, errStale)

	must(t, w.server.Export([]Export{code}))
	_, st = w.getattr(h)
	w.want(st, ok)
}

// What requests that are under way open of an export that is gone is closed when
// they end.
func TestExportGoesUnderARequest(t *testing.T) {
	w := newWorld(t)
	v := w.server.one()
	held, err := v.openNode(v.root)
	must(t, err)
	must(t, w.server.Export(nil))
	_, err = statFD(held.fd)
	must(t, err) // it is of use to the end
	late, err := v.openNode(v.root)
	must(t, err)
	late.release()
	held.release()
	for _, f := range []*file{held, late} {
		if f.refs != 0 {
			t.Errorf("a folder is left open: %d refs", f.refs)
		}
	}
}

func TestBadConfigurations(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, want string
		config     Config
	}{
		{"short key", "the key has 3 bytes: it needs 32", Config{Key: []byte("abc"), State: dir}},
		{"no folder", `export "a": stat ` + dir + `/none: no such file or directory`, Config{Key: testKey, State: dir, Exports: []Export{{Name: "a", Dir: dir + "/none"}}}},
		{"bad name", `export "a/b": not a name`, Config{Key: testKey, State: dir, Exports: []Export{{Name: "a/b", Dir: dir}}}},
		{"same names", `export "a": the name is taken`, Config{Key: testKey, State: dir, Exports: []Export{{Name: "a", Dir: dir}, {Name: "a", Dir: dir}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewServer(c.config)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func FuzzParseCall(f *testing.F) {
	c := client{uid: 5, gid: 6, groups: []uint32{7, 8}}
	f.Add(c.message(progNFS, version, procLookup, func(w *writer) { w.opaque(make([]byte, 40)); w.str("name") })[4:])
	f.Add(c.message(progMount, version, mountMnt, func(w *writer) { w.str("/a/b") })[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		var c call
		fault, isCall := parseCall(b, &c)
		if fault == nil && isCall && (c.args.bad || len(c.args.b) > len(b) || c.cred.n > maxGroups) {
			t.Errorf("%+v", c)
		}
	})
}

// FuzzRequest has the server answer to anything that a guest could send.
func FuzzRequest(f *testing.F) {
	w := newWorld(f)
	core := w.as(1000, 1000)
	h, _ := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o666))})
	for proc := uint32(0); proc <= procCommit; proc++ {
		f.Add(core.message(progNFS, version, proc, func(x *writer) {
			x.opaque(w.root)
			x.str("name")
			x.u32(0)
			sets{mode: p(uint32(0o644))}.write(x)
			x.opaque(h)
		})[4:])
		f.Add(core.message(progNFS, version, proc, func(x *writer) {
			x.opaque(h)
			x.u64(0)
			x.u32(4)
			x.u32(2)
			x.opaque([]byte("data"))
		})[4:])
	}
	for proc := uint32(0); proc <= mountExport; proc++ {
		f.Add(core.message(progMount, version, proc, func(x *writer) { x.str("/x/y") })[4:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &conn{s: w.server, large: newAllowance()}
		r := request{s: w.server, conn: c, takesLong: func() {}}
		fault, isCall := parseCall(b, &r.call)
		if !isCall || fault != nil {
			return
		}
		r.out = c.s.memory.get(0, nil)
		r.w.b = r.out.b
		r.run()
		r.w.end()
		if len(r.w.b)%4 != 0 || len(r.w.b) < replyHeader {
			t.Errorf("a reply of %d bytes", len(r.w.b))
		}
		r.out.b = r.w.b
		c.s.memory.put(r.out, c.large)
	})
}

func FuzzXDR(f *testing.F) {
	f.Add([]byte{0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 0, 0, 1}, uint16(10))
	f.Fuzz(func(t *testing.T, b []byte, most uint16) {
		r := reader{b: b}
		if o := r.opaque(int(most)); !r.bad {
			var w writer
			w.opaque(o)
			if len(o) > int(most) || len(w.b) > len(b) || !bytes.Equal(w.b[:4+len(o)], b[:4+len(o)]) {
				t.Errorf("%q gives %q", b, o)
			}
		}
	})
}
