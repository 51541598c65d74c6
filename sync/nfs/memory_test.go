//go:build linux || darwin

package nfs

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// Guests whose calls hang have all the large buffers that they can have, and another
// one goes on.
func TestHungCallsOfOtherGuests(t *testing.T) {
	w := newWorld(t)
	hanging, st := w.create(w.root, "hanging", guarded, sets{mode: p(uint32(0o644))})
	w.want(st, ok)
	good, st := w.create(w.root, "good", guarded, sets{mode: p(uint32(0o644))})
	w.want(st, ok)
	v := w.server.one()
	held := &v.content[w.stat(hanging).id%uint64(len(v.content))]
	if held == &v.content[w.stat(good).id%uint64(len(v.content))] {
		t.Fatal("both files have one lock")
	}
	held.Lock() // a WRITE waits for it as for a disk that hangs
	wake := sync.OnceFunc(held.Unlock)
	defer wake()
	data := make([]byte, 100_000)
	var guests []*client
	for range 3 {
		guest := dial(t, w.addr)
		guests = append(guests, guest)
		for range maxLarge / 2 {
			_, err := guest.nc.Write(guest.message(progNFS, version, procWrite, writing(hanging, data)))
			must(t, err)
		}
	}
	await(t, "all large buffers to be taken", func() bool { return len(w.server.memory.slots) == maxLarge })

	must(t, w.nc.SetDeadline(time.Now().Add(20*time.Second)))
	n, _, st := w.write(good, 0, data, unstable)
	w.want(st, ok)
	if int(n) != len(data) {
		t.Errorf("%d bytes are written, want %d", n, len(data))
	}
	// Many at one time have turns with the one buffer.
	calls := map[uint32]bool{}
	var all []byte
	for i := range 2 * maxCalls {
		call := w.message(progNFS, version, procRead, func(x *writer) { x.opaque(good); x.u64(0); x.u32(uint32(len(data))) })
		if i%4 == 3 {
			call = w.message(progNFS, version, procWrite, writing(good, data))
		}
		calls[binary.BigEndian.Uint32(call[4:])] = true
		all = append(all, call...)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := w.nc.Write(all)
		sent <- err
	}()
	for range len(calls) {
		delete(calls, receive(t, w.nc).u32())
	}
	must(t, <-sent)
	if len(calls) > 0 {
		t.Errorf("%d calls have no reply", len(calls))
	}
	wake()
	for _, guest := range guests {
		for range maxLarge / 2 {
			receive(t, guest.nc)
		}
	}
	await(t, "all buffers to be given back", func() bool { return len(w.server.memory.slots) == 0 })
}

// writing has the arguments of a WRITE of data, at the file's start.
func writing(h, data []byte) func(*writer) {
	return func(w *writer) {
		w.opaque(h)
		w.u64(0)
		w.u32(uint32(len(data)))
		w.u32(unstable)
		w.opaque(data)
	}
}

// A call with a large message and a large reply would wait for a second buffer while
// it has one.
func TestLargeMessages(t *testing.T) {
	w := newWorld(t)
	h, st := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o644))})
	w.want(st, ok)
	read := func(x *writer) { x.opaque(h); x.u64(0); x.u32(maxData) }
	padded := func(args func(*writer)) func(*writer) {
		return func(x *writer) { args(x); x.b = append(x.b, make([]byte, small)...) }
	}
	write := writing(h, make([]byte, 100_000))
	for _, c := range []struct {
		name  string
		proc  uint32
		args  func(*writer)
		first int // bytes in the first fragment; 0: there is one
		taken bool
	}{
		{"a WRITE", procWrite, write, 0, true},
		{"a WRITE in two pieces", procWrite, write, 1000, true},
		{"a WRITE of which it does not show at first", procWrite, write, 20, false},
		{"a READ", procRead, padded(read), 0, false},
		{"a READ in two pieces", procRead, padded(read), 1000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			guest := dial(t, w.addr)
			must(t, guest.nc.SetDeadline(time.Now().Add(20*time.Second)))
			guest.stat(h) // now it is known
			msg := guest.message(progNFS, version, c.proc, c.args)
			if c.first > 0 {
				msg = binary.BigEndian.AppendUint32(nil, uint32(c.first))
				body := guest.message(progNFS, version, c.proc, c.args)[4:]
				msg = append(msg, body[:c.first]...)
				msg = binary.BigEndian.AppendUint32(msg, uint32(len(body)-c.first)|lastFragment)
				msg = append(msg, body[c.first:]...)
			}
			_, _ = guest.nc.Write(msg) // it may be cut off in the middle
			var head [28]byte
			_, err := io.ReadFull(guest.nc, head[:])
			if taken := err == nil; taken != c.taken || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("taken: %t, want %t (%v)", taken, c.taken, err)
			}
			if c.taken && !slices.Equal(head[24:], []byte{0, 0, 0, acceptSuccess}) {
				t.Errorf("the reply begins with %x", head)
			}
		})
	}
}
