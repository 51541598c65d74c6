package nfs

import (
	"context"
	"encoding/binary"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/lab"
)

// A share on a disk that hangs does not hold up the guest's other shares, which
// have one connection with it, unless its calls fill that.
func TestHungShare(t *testing.T) {
	hanging, good := t.TempDir(), t.TempDir()
	w := &world{dir: hanging, state: filepath.Join(t.TempDir(), "state")}
	w.start(t, func(c *Config) {
		c.Exports = append(c.Exports, Export{Name: "good", Dir: good, UID: coreID, GID: coreID})
	})
	t.Cleanup(func() { w.stop() })
	conn := w.converse(t)
	root := w.mountRoot(Path(testKey, "good"))
	t.Setenv("TMPDIR", hanging)
	disk, wake := lab.Hung(t)

	must(t, w.nc.SetDeadline(time.Now().Add(time.Minute)))
	hung := map[uint32]bool{}
	for range maxCalls - 2 {
		call := w.message(progNFS, version, procLookup, func(x *writer) { x.opaque(w.root); x.str(filepath.Base(disk)) })
		hung[binary.BigEndian.Uint32(call[4:])] = true
		_, err := w.nc.Write(call)
		must(t, err)
		await(t, "the reader to make the call itself", func() bool { return conn.turn.call.Load() != 0 || conn.turn.heldUp() })
		w.stat(root)
	}
	wake()
	for range len(hung) {
		xid := receive(t, w.nc).u32()
		if !hung[xid] {
			t.Errorf("a reply to call %d, which did not hang", xid)
		}
		delete(hung, xid)
	}
	await(t, "the end of those calls", func() bool { return !conn.turn.heldUp() })
	w.stat(root)
}

// converse gives the client a connection that is the test's to look at.
func (w *world) converse(t *testing.T) *conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	w.client = dial(t, l.Addr().String())
	nc, err := l.Accept()
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	var busy relief
	tasks.Go(func() { busy.watch(ctx) })
	tasks.Go(func() { w.server.converse(ctx, nc, &busy) })
	t.Cleanup(func() {
		cancel()
		tasks.Wait()
	})
	var c *conn
	await(t, "the connection", func() bool {
		busy.mu.Lock()
		defer busy.mu.Unlock()
		for c = range busy.conns {
		}
		return c != nil
	})
	return c
}

// The turn is the reader's or another's, and never both have it.
func TestTurn(t *testing.T) {
	t.Parallel()
	var turn turn
	takes := func(want bool) {
		t.Helper()
		if got := turn.take(); got != want {
			t.Errorf("take: %t", got)
		}
	}
	ends := func(want bool) {
		t.Helper()
		if got := turn.end(); got != want {
			t.Errorf("end: %t", got)
		}
	}
	takes(false) // nothing is called
	turn.begin()
	takes(false) // for how long?
	ends(true)
	turn.begin()
	takes(false) // it is another call
	takes(true)
	takes(false)
	if !turn.heldUp() {
		t.Error("nobody is held up")
	}
	turn.begin() // who reads then
	takes(false)
	ends(true)
	ends(false)
	call := turn.begin()
	if !turn.takeFrom(call) || turn.takeFrom(call) {
		t.Error("a call that takes long loses its turn once")
	}
	turn.begin() // who reads then
	if turn.takeFrom(call) {
		t.Error("a call took the turn of another one")
	}
	ends(true)
	ends(false)
	if turn.heldUp() {
		t.Error("somebody is held up")
	}
}

// A list that takes long says so while it is made.
func TestLongList(t *testing.T) {
	w := newWorld(t)
	_, st := w.create(w.root, "f", guarded, sets{})
	w.want(st, ok)
	list := func(began time.Time) (said int) {
		r := request{s: w.server, takesLong: func() { said++ }}
		v := w.server.volume(exportID(testKey, "code"))
		l := lister{r: &r, t: target{v, v.root}, dir: &attr{}, began: began, most: maxList, names: maxList}
		if !l.add(&dirent{name: []byte("f")}) {
			t.Error("one entry does not fit")
		}
		return said
	}
	if said := list(time.Now().Add(time.Hour)); said != 0 {
		t.Error("a short list is said to take long")
	}
	if said := list(time.Now().Add(-time.Hour)); said != 1 {
		t.Errorf("a long list said so %d times", said)
	}
}
