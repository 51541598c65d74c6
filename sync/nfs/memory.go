//go:build linux || darwin

package nfs

import "sync"

const (
	// maxData is the most that a READ or a WRITE carries.
	maxData = 1 << 20
	// maxRecord is a WRITE of maxData with all around it.
	maxRecord = maxData + 4<<10
	small     = 16 << 10
	// maxLarge buffers are in use at one time in the whole server, besides one of
	// each connection, which has half as many. No call needs two: large messages
	// are WRITEs (see receive), and their replies are small.
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
	slot  chan struct{} // that a large one takes
}

// allowance is for the large buffers of one connection. What others have, on a disk
// that hangs, keeps it from no more than all but one.
type allowance struct {
	slots chan struct{} // of those in use
	first chan struct{} // of the one that takes no slot of the server's
}

func newAllowance() *allowance {
	return &allowance{slots: make(chan struct{}, maxLarge/2), first: make(chan struct{}, 1)}
}

func newBuffers() *buffers {
	return &buffers{
		small: sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, small)} }},
		large: sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, maxRecord+1024), large: true} }},
		slots: make(chan struct{}, maxLarge),
	}
}

// get returns an empty buffer with room for n bytes. It waits for a large one.
func (p *buffers) get(n int, own *allowance) *buffer {
	if n <= small {
		return p.small.Get().(*buffer)
	}
	own.slots <- struct{}{}
	slot := own.first
	select {
	case own.first <- struct{}{}:
	default:
		select {
		case own.first <- struct{}{}:
		case p.slots <- struct{}{}:
			slot = p.slots
		}
	}
	b := p.large.Get().(*buffer)
	b.slot = slot
	return b
}

func (p *buffers) put(b *buffer, own *allowance) {
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
	slot := b.slot
	b.b, b.slot = b.b[:0], nil
	p.large.Put(b)
	<-slot
	<-own.slots
}
