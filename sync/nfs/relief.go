//go:build linux || darwin

package nfs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// reliefTime is how often it is looked whether a reader is held up.
const reliefTime = 250 * time.Millisecond

// turn says whose it is to read from a connection. A reader that makes a call
// itself may be held up by a disk that hangs, and with it all shares of the guest:
// the turn is then taken from it, and another one reads.
type turn struct {
	calls uint64        // the reader's alone; that it is not the same says it is another call
	call  atomic.Uint64 // which the reader makes itself; 0: none, or it has lost the turn
	held  atomic.Int32  // that have lost it and are still at their calls
	seen  uint64        // the relief's alone
}

// begin returns the number of the call.
func (t *turn) begin() uint64 {
	t.calls++
	t.call.Store(t.calls)
	return t.calls
}

// end returns false when the turn was lost.
func (t *turn) end() bool {
	if t.call.Swap(0) != 0 {
		return true
	}
	t.held.Add(-1)
	return false
}

// heldUp tells whether somebody is held up: the next call may be, too.
func (t *turn) heldUp() bool { return t.held.Load() > 0 }

// take takes the turn from a reader that is at the same call as when it was asked
// before. It then is the caller's, to have another one read.
func (t *turn) take() bool {
	call, seen := t.call.Load(), t.seen
	t.seen = call
	return call == seen && t.takeFrom(call)
}

// takeFrom takes the turn from a call, unless it has lost it already.
func (t *turn) takeFrom(call uint64) bool {
	if call == 0 || !t.call.CompareAndSwap(call, 0) {
		return false
	}
	t.held.Add(1)
	return true
}

// relief has others read from the connections whose readers are held up. The zero
// value has none.
type relief struct {
	mu    sync.Mutex
	conns map[*conn]bool
}

// of adds a connection until done is called, when nobody reads from it any more.
func (r *relief) of(c *conn) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		r.conns = make(map[*conn]bool)
	}
	r.conns[c] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.conns, c)
	}
}

// watch is apart from what closes files, as that may hang, too.
func (r *relief) watch(ctx context.Context) {
	t := time.NewTicker(reliefTime)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.mu.Lock()
			for c := range r.conns {
				if c.turn.take() {
					c.readOn(ctx)
				}
			}
			r.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}
