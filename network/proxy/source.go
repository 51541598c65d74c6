package proxy

import (
	"net"
	"sync"
)

// largeBuffer takes the largest datagram.
const largeBuffer = 64 << 10

var buffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// source reads from a connection.
type source interface {
	// read waits until there is something and returns it. The end of a stream
	// is io.EOF. What it returns is valid until release.
	read() ([]byte, error)
	release()
}

// bufferSource has a buffer all the time. For a stream it is small until it
// was filled: most connections that stay never need a large one.
type bufferSource struct {
	conn net.Conn
	buf  []byte
	grow bool
}

func newBufferSource(c net.Conn, datagrams bool) *bufferSource {
	if datagrams {
		return &bufferSource{conn: c, buf: make([]byte, largeBuffer)}
	}
	return &bufferSource{conn: c, buf: make([]byte, 2<<10)}
}

func (s *bufferSource) read() ([]byte, error) {
	if s.grow {
		s.buf, s.grow = make([]byte, min(4*len(s.buf), largeBuffer)), false
	}
	n, err := s.conn.Read(s.buf)
	if n > 0 {
		// A stream gives its end again after what came with it.
		err = nil
	}
	s.grow = n == len(s.buf) && n < largeBuffer
	return s.buf[:n], err
}

func (s *bufferSource) release() {}
