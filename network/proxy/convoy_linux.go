package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// convoy carries the directions through which much comes. Were each woken for
// what has come, a few streams would wake the proxy thousands of times a second,
// and each time take a processor from who makes the data: QEMU, on a host that has
// two. One goroutine goes round instead, and rests in between.
type convoy struct {
	tasks *sync.WaitGroup

	mu     sync.Mutex
	joined []*direction // since the last round
	goes   bool
}

const (
	// convoyRest is how long a round waits for more, where it did not find very much.
	convoyRest = 2 * time.Millisecond
	// convoyQuiet is how long a direction stays though nothing comes.
	convoyQuiet = 5 * time.Millisecond
	// convoyApart is how long one goes by itself whose destination did not keep up,
	// or answers: what is a dialogue must not wait for rounds.
	convoyApart = 100 * time.Millisecond
	// convoyLoad is what a round takes of a direction at most.
	convoyLoad = 256 << 10
)

// takes returns what d is written to by in a convoy: nil when it cannot be in one.
func (c *convoy) takes(d *direction) syscall.RawConn {
	dst, ok := d.dst.(*net.TCPConn)
	if _, both := d.from.(*socketSource); !ok || !both {
		return nil
	}
	raw, err := dst.SyscallConn()
	if err != nil {
		return nil // it has ended, which its next write will say
	}
	return raw
}

// join has d carried here. Its goroutine then ends.
func (c *convoy) join(d *direction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.came, d.heard = time.Now(), d.opposite().reads.Load()
	c.joined = append(c.joined, d)
	if !c.goes {
		c.goes = true
		c.tasks.Go(c.goRound)
	}
}

// goRound ends when nobody is left.
func (c *convoy) goRound() {
	rest := time.NewTicker(convoyRest)
	defer rest.Stop()
	buf := make([]byte, convoyLoad)
	var all []*direction
	for {
		c.mu.Lock()
		all = append(all, c.joined...)
		c.joined = nil
		c.goes = len(all) > 0
		c.mu.Unlock()
		if len(all) == 0 {
			return
		}
		stay, much := all[:0], false
		for _, d := range all {
			n, stays := d.haul(buf)
			much = much || n == len(buf)
			if stays {
				stay = append(stay, d)
			} else {
				c.tasks.Go(d.carry)
			}
		}
		clear(all[len(stay):])
		all = stay
		if much {
			runtime.Gosched()
		} else {
			<-rest.C
		}
	}
}

// haul moves what has come, and waits for nothing. A direction does not stay
// that has ended, has nothing to carry, or whose destination does not keep up or
// answers: it goes on by itself, with what is left to write.
func (d *direction) haul(buf []byte) (n int, stays bool) {
	now := time.Now()
	if d.opposite().reads.Load() != d.heard {
		d.apart = now.Add(convoyApart)
		return 0, false
	}
	n, err := tryIO(d.from.(*socketSource).raw, func(fd int) (int, error) {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		return n, err
	})
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, now.Sub(d.came) < convoyQuiet
	case err == nil && n == 0:
		err = io.EOF
	}
	if err != nil {
		d.endsWith(err)
		return 0, false
	}
	d.came = now
	d.reads.Add(1)
	written, err := tryIO(d.to, func(fd int) (int, error) { return unix.Write(fd, buf[:n]) })
	switch {
	case written == n:
		return n, true
	case err != nil && !errors.Is(err, unix.EAGAIN):
		d.endsWith(err)
	default:
		d.left, d.apart = bytes.Clone(buf[written:n]), now.Add(convoyApart)
	}
	return n, false
}

// endsWith has carry end the direction. What breaks it off is told to the other
// side at once: before the other direction, which does not see an error that this
// one was given, takes it for an orderly end.
func (d *direction) endsWith(err error) {
	if !errors.Is(err, io.EOF) {
		d.pair.reset()
	}
	d.ended = err
}

// tryIO reads or writes once, and returns EAGAIN where it would have to wait.
func tryIO(raw syscall.RawConn, do func(fd int) (int, error)) (n int, err error) {
	closed := raw.Control(func(fd uintptr) {
		for {
			if n, err = do(int(fd)); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
	if closed != nil {
		return 0, closed
	}
	return max(n, 0), err
}
