//go:build linux || darwin

package nfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a connection whose reads and writes wait in the system, and not in
// the runtime's poller. Guests under load ask thousands of times a second, one
// call after the other; by the poller each would wake threads that look for
// work there is not, on processors that the guests need.
type socket struct {
	fd     int
	remote net.Addr
}

// newSocket takes nc over. A read that gets nothing for the time of idle returns
// errIdle, and so does a write of which nothing is taken for that of untaken.
func newSocket(nc net.Conn, idle, untaken time.Duration) (*socket, error) {
	defer nc.Close() // the descriptor lives on in a copy
	c, ok := nc.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%T is no socket", nc)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{remote: nc.RemoteAddr()}
	if ctlErr := raw.Control(func(fd uintptr) { s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); ctlErr != nil {
		return nil, ctlErr
	}
	if err != nil {
		return nil, err
	}
	receive, take := unix.NsecToTimeval(idle.Nanoseconds()), unix.NsecToTimeval(untaken.Nanoseconds())
	err = errors.Join(
		unix.SetNonblock(s.fd, false),
		unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &receive),
		unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &take),
	)
	if err != nil {
		closeFD(s.fd)
		return nil, err
	}
	return s, nil
}

// errIdle says that nothing came, or nothing was taken, for long.
var errIdle = errors.New("timeout")

func (s *socket) Read(b []byte) (n int, err error) {
	err = retry(func() error { n, err = unix.Read(s.fd, b); return err })
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, errIdle
	case err != nil:
		return 0, err
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

func (s *socket) Write(b []byte) (int, error) {
	sum := 0
	for sum < len(b) {
		var n int
		err := retry(func() (err error) { n, err = unix.Write(s.fd, b[sum:]); return })
		if errors.Is(err, unix.EAGAIN) {
			err = errIdle
		}
		if err != nil {
			return sum, err
		}
		sum += n
	}
	return sum, nil
}

// shut ends reads and writes, those under way too.
func (s *socket) shut() { _ = unix.Shutdown(s.fd, unix.SHUT_RDWR) } // it may have ended by itself

// shutAfter shuts when ctx ends, unless stop is called before.
func (s *socket) shutAfter(ctx context.Context) (stop func()) {
	ended := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() { defer close(ended); s.shut() })
	return func() {
		if !cancel() {
			<-ended // not another connection that has got the number
		}
	}
}

// close is for when nobody uses it any more.
func (s *socket) close() { closeFD(s.fd) }
