package proxy

import (
	"errors"
	"io"
	"net"
	"os"
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
}

// untilParked is how long a direction keeps its goroutine though nothing
// comes: long enough for a stream, short enough for ten thousand clients that
// come at once.
const untilParked = 20 * time.Millisecond

// carry copies until the source ends, or leaves the direction to the lot. What
// ends in another way than by its end breaks off the whole pair.
func (d *direction) carry() {
	parked, err := d.relay()
	if parked {
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

// relay copies until the source ends, or until the direction is parked.
func (d *direction) relay() (parked bool, err error) {
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
		full := len(b) == largeBuffer
		if err == nil {
			_, err = d.dst.Write(b)
		}
		d.from.release()
		if err == nil && full {
			err = spliceWhatIsThere(d.dst, d.src)
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
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
