//go:build linux || darwin

package nfs

import (
	"fmt"
	"testing"
)

func BenchmarkCalls(b *testing.B) {
	w := newWorld(b)
	h, st := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o644))})
	w.want(st, ok)
	data := make([]byte, maxData)
	_, _, st = w.write(h, 0, data, unstable)
	w.want(st, ok)
	for _, c := range []struct {
		name string
		msg  []byte
	}{
		{"Getattr", w.message(progNFS, version, procGetattr, func(x *writer) { x.opaque(h) })},
		{"Lookup", w.message(progNFS, version, procLookup, func(x *writer) { x.opaque(w.root); x.str("f") })},
		{"Access", w.message(progNFS, version, procAccess, func(x *writer) { x.opaque(h); x.u32(63) })},
		{"Read4K", w.message(progNFS, version, procRead, func(x *writer) { x.opaque(h); x.u64(0); x.u32(4096) })},
		{"Read1M", w.message(progNFS, version, procRead, func(x *writer) { x.opaque(h); x.u64(0); x.u32(maxData) })},
		{"Write1M", w.message(progNFS, version, procWrite, func(x *writer) {
			x.opaque(h)
			x.u64(0)
			x.u32(maxData)
			x.u32(unstable)
			x.opaque(data)
		})},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			cn := &conn{s: w.server, large: newAllowance()}
			for b.Loop() {
				var r request
				r.s, r.conn, r.takesLong = w.server, cn, func() {}
				if fault, isCall := parseCall(c.msg[4:], &r.call); fault != nil || !isCall {
					b.Fatal(fault)
				}
				r.out = cn.s.memory.get(0, nil)
				r.w.b = r.out.b
				r.run()
				r.out.b = r.w.b
				cn.s.memory.put(r.out, cn.large)
			}
		})
	}
	b.Run("Readdirplus", func(b *testing.B) {
		d, st := w.mkdir(w.root, "d", 0o755)
		w.want(st, ok)
		for i := range 1000 {
			_, st := w.create(d, fmt.Sprintf("file%d", i), guarded, sets{})
			w.want(st, ok)
		}
		for b.Loop() {
			w.list(d, true, 32<<10)
		}
	})
}
