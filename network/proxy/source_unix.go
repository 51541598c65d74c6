//go:build unix

package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// newSource reads sockets without holding a buffer while nothing comes.
func newSource(c net.Conn, datagrams bool) (source, error) {
	// A type that embeds one of these may read in another way.
	switch c.(type) {
	case *net.TCPConn, *net.UDPConn, *net.UnixConn:
	default:
		return newBufferSource(c, datagrams), nil
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socketSource{raw: raw, datagrams: datagrams}
	s.receive = s.tryReceive
	return s, nil
}

type socketSource struct {
	raw       syscall.RawConn
	datagrams bool
	receive   func(fd uintptr) bool // tryReceive, bound once

	buf *[largeBuffer]byte
	n   int
	err error
}

func (s *socketSource) read() ([]byte, error) {
	if err := s.raw.Read(s.receive); err != nil {
		return nil, err
	}
	switch {
	case s.err != nil:
		return nil, os.NewSyscallError("recvfrom", s.err)
	case s.n == 0 && !s.datagrams:
		return nil, io.EOF
	default:
		return s.buf[:s.n], nil
	}
}

func (s *socketSource) release() {
	if s.buf != nil {
		buffers.Put(s.buf)
		s.buf = nil
	}
}

// tryReceive reports false when there is nothing yet: the runtime's poller
// waits then, and calls it again.
func (s *socketSource) tryReceive(fd uintptr) bool {
	if s.buf == nil {
		s.buf = buffers.Get().(*[largeBuffer]byte)
	}
	for {
		s.n, _, s.err = unix.Recvfrom(int(fd), s.buf[:], 0)
		switch {
		case errors.Is(s.err, unix.EINTR):
		case errors.Is(s.err, unix.EAGAIN):
			s.release()
			return false
		default:
			return true
		}
	}
}
