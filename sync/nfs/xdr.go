package nfs

import "encoding/binary"

// reader takes XDR (RFC 4506) apart. What does not fit sets bad, and everything
// after it is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u32() uint32 {
	b := r.take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (r *reader) u64() uint64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (r *reader) bool() bool { return r.u32() != 0 }

// opaque returns bytes of variable length, part of the message itself: nothing
// is allocated for a length that is claimed.
func (r *reader) opaque(most int) []byte {
	n := r.u32()
	if r.bad || uint64(n) > uint64(most) || int(n) > len(r.b) {
		r.bad = true
		return nil
	}
	b := r.take(int(n))
	if pad := int(-n & 3); len(r.b) >= pad {
		r.b = r.b[pad:]
	} else {
		r.bad = true
	}
	return b
}

// writer puts XDR together.
type writer struct{ b []byte }

func (w *writer) u32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64) { w.b = binary.BigEndian.AppendUint64(w.b, v) }

func (w *writer) bool(v bool) {
	if v {
		w.u32(1)
	} else {
		w.u32(0)
	}
}

func (w *writer) opaque(b []byte) {
	w.u32(uint32(len(b)))
	w.b = append(w.b, b...)
	w.pad(len(b))
}

func (w *writer) str(s string) {
	w.u32(uint32(len(s)))
	w.b = append(w.b, s...)
	w.pad(len(s))
}

// pad fills up what follows n bytes.
func (w *writer) pad(n int) {
	const zeros = "\x00\x00\x00"
	w.b = append(w.b, zeros[:-n&3]...)
}

// setU32 changes what stands at offset at.
func (w *writer) setU32(at int, v uint32) { binary.BigEndian.PutUint32(w.b[at:], v) }
