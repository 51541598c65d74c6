//go:build linux || darwin

package nfs

import "sync"

const (
	// maxData is the most that a READ or a WRITE carries.
	maxData = 1 << 20
	// maxRecord is a WRITE of maxData with all around it.
	maxRecord = maxData + 4<<10
	small     = 16 << 10
	// maxLarge buffers are in use at one time in the whole server, and half of
	// them by one connection. No request needs two.
	maxLarge = 20
)

// buffers hands out memory for requests and replies.
type buffers struct {
	small, large sync.Pool
	slots        chan struct{} // of large ones in use
}

// buffer is either.
type buffer struct {
	b     []byte
	large bool
}

func newBuffers() *buffers {
	return &buffers{
		small: sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, small)} }},
		large: sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, maxRecord+1024), large: true} }},
		slots: make(chan struct{}, maxLarge),
	}
}

// get returns an empty buffer with room for n bytes. It waits for a large one.
func (p *buffers) get(n int, own chan struct{}) *buffer {
	if n <= small {
		return p.small.Get().(*buffer)
	}
	own <- struct{}{}
	p.slots <- struct{}{}
	return p.large.Get().(*buffer)
}

func (p *buffers) put(b *buffer, own chan struct{}) {
	if b == nil {
		return
	}
	if !b.large {
		if cap(b.b) <= 4*small { // grown by a reply
			b.b = b.b[:0]
			p.small.Put(b)
		}
		return
	}
	b.b = b.b[:0]
	p.large.Put(b)
	<-p.slots
	<-own
}
