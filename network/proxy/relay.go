package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// direction carries what one side of a pair sends.
type direction struct {
	pair     *pair
	dst, src net.Conn
	from     source    // of src
	parks    bool      // may wait in the lot
	quiet    time.Time // when it will have waited for long enough to park
	parkedAt int       // file descriptor by which the lot knows it
	reads    atomic.Uint64

	// Of one that was in the convoy.
	to    syscall.RawConn // of dst; nil if it cannot be there
	came  time.Time       // when something came last
	heard uint64          // reads of the opposite direction as it joined
	apart time.Time       // until when it does not go there again
	left  []byte          // to write before anything else
	ended error           // of src or dst, to be told after that
}

// opposite is the pair's other direction.
func (d *direction) opposite() *direction {
	if d == &d.pair.directions[0] {
		return &d.pair.directions[1]
	}
	return &d.pair.directions[0]
}

// untilParked is how long a direction keeps its goroutine though nothing
// comes: long enough for a stream, short enough for ten thousand clients that
// come at once.
const untilParked = 20 * time.Millisecond

// carry copies until the source ends, or leaves the direction to the lot or the
// convoy. What ends in another way than by its end breaks off the whole pair.
func (d *direction) carry() {
	elsewhere, err := d.relay()
	if elsewhere {
		return
	}
	if err == nil {
		err = closeWrite(d.dst)
	}
	if err != nil {
		d.pair.reset()
	}
	if d.pair.over.Add(1) == 2 {
		d.pair.end()
	}
}

// relay copies until the source ends, or until the direction is carried
// elsewhere.
func (d *direction) relay() (elsewhere bool, err error) {
	if err := d.finish(); err != nil {
		return false, orderly(err)
	}
	for {
		if err := d.limitWait(); err != nil {
			return false, err
		}
		b, err := d.from.read()
		if d.parks && errors.Is(err, os.ErrDeadlineExceeded) {
			if d.pair.relay.lot.park(d) {
				return true, nil
			}
			if err := d.waitOnly(); err != nil {
				return false, err
			}
			continue
		}
		d.reads.Add(1)
		much := len(b) >= largeBuffer/2
		if err == nil {
			_, err = d.dst.Write(b)
		}
		d.from.release()
		if err != nil {
			return false, orderly(err)
		}
		if much && d.to != nil && time.Now().After(d.apart) {
			d.pair.relay.convoy.join(d)
			return true, nil
		}
		if much {
			if err := spliceWhatIsThere(d.dst, d.src); err != nil {
				return false, orderly(err)
			}
		}
	}
}

// finish does what the convoy has left to do, and returns why the direction has
// ended, if it has.
func (d *direction) finish() error {
	left, ended := d.left, d.ended
	d.left, d.ended = nil, nil
	if len(left) > 0 {
		if _, err := d.dst.Write(left); err != nil {
			return err
		}
	}
	return ended
}

// orderly is what is left of an error when the end of a stream is none.
func orderly(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// limitWait lets reads end when nothing comes for untilParked. It moves the
// deadline only when half of that is over, which is cheaper than at every read.
func (d *direction) limitWait() error {
	now := time.Now()
	if !d.parks || d.quiet.Sub(now) > untilParked/2 {
		return nil
	}
	d.quiet = now.Add(untilParked)
	return d.src.SetReadDeadline(d.quiet)
}

// waitOnly is for a direction that the lot did not take.
func (d *direction) waitOnly() error {
	d.parks = false
	return d.src.SetReadDeadline(time.Time{})
}
