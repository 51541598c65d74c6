package libvirt

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/digitalocean/go-libvirt/socket"
)

// inOrder is a connection on which the answer to a call comes before the data of the
// stream that the call has opened, and the end of a stream once. libvirtd sends the
// data first when it is quick. go-libvirt then takes data for the answer and the answer
// for the end of the stream, and is stuck for good at the real end: its reader waits,
// with its lock held, for one that waits for the lock.
//
// It also confirms the end of a download, which go-libvirt does not: until then
// libvirtd keeps the stream, with two files that are open, as long as the connection
// lasts.
type inOrder struct {
	net.Conn
	out      sync.Mutex // guards what follows, and writing
	partial  []byte     // the beginning of a packet whose length is not known yet
	unsent   uint32     // of the packet that is being written
	finishes [][]byte   // packets to write after it

	in      *bufio.Reader
	left    uint32             // of the packet that is handed out from in
	ready   []byte             // is handed out next
	streams map[uint32]*stream // by serial, of the whole connection: a few bytes each
}

// stream is what has come of one.
type stream struct {
	answered, ended bool
	held            []byte // packets that came before the answer
}

// A packet of libvirt's protocol begins with its length, itself included, program,
// version, procedure, type, serial and status, four bytes each, big-endian.
// src/rpc/virnetprotocol.x of libvirt.
const (
	packetHeader    = 28
	packetProcedure = 12
	packetType      = 16
	packetSerial    = 20
	packetStatus    = 24

	// Procedures that open streams. src/remote/remote_protocol.x of libvirt.
	procVolumeUpload   = 208
	procVolumeDownload = 209

	// maxHeld is more than libvirtd sends before its answer.
	maxHeld = 8 << 20
)

var errStreamUnanswered = errors.New("libvirtd sends data that nobody has asked for")

func newInOrder(c net.Conn) *inOrder {
	return &inOrder{Conn: c, in: bufio.NewReader(c), streams: map[uint32]*stream{}}
}

// Read implements [net.Conn].
func (c *inOrder) Read(p []byte) (int, error) {
	for c.left == 0 && len(c.ready) == 0 {
		if err := c.begin(); err != nil {
			return 0, err
		}
	}
	if c.left == 0 {
		n := copy(p, c.ready)
		c.ready = c.ready[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(len(p), int(c.left))])
	c.left -= uint32(n)
	return n, err
}

// begin looks at the next packet.
func (c *inOrder) begin() error {
	length, err := c.in.Peek(4)
	if err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(length)
	if n < packetHeader {
		c.left = max(n, 4) // go-libvirt finds out that it is no packet
		return nil
	}
	head, err := c.in.Peek(packetHeader)
	if err != nil {
		return err
	}
	serial := binary.BigEndian.Uint32(head[packetSerial:])
	switch binary.BigEndian.Uint32(head[packetType:]) {
	case socket.Reply:
		switch binary.BigEndian.Uint32(head[packetProcedure:]) {
		case procVolumeUpload, procVolumeDownload:
			s := c.stream(serial)
			s.answered = true
			c.ready, s.held = s.held, nil
		}
	case socket.Stream:
		s := c.stream(serial)
		again := s.ended
		s.ended = s.ended || n == packetHeader
		if s.ended && !again && binary.BigEndian.Uint32(head[packetProcedure:]) == procVolumeDownload &&
			binary.BigEndian.Uint32(head[packetStatus:]) == socket.StatusContinue {
			finish := bytes.Clone(head)
			binary.BigEndian.PutUint32(finish[packetStatus:], socket.StatusOK)
			// Whoever reads must not wait until libvirtd takes something.
			go c.finish(finish)
		}
		if again || !s.answered {
			return c.take(n, s, again)
		}
	}
	c.left = n
	return nil
}

func (c *inOrder) stream(serial uint32) *stream {
	s := c.streams[serial]
	if s == nil {
		s = &stream{}
		c.streams[serial] = s
	}
	return s
}

// take keeps the next packet until its call is answered, or forgets it.
func (c *inOrder) take(n uint32, s *stream, forget bool) error {
	if forget {
		_, err := c.in.Discard(int(n))
		return err
	}
	if len(s.held)+int(n) > maxHeld {
		return errStreamUnanswered
	}
	packet := make([]byte, n)
	if _, err := io.ReadFull(c.in, packet); err != nil {
		return err
	}
	s.held = append(s.held, packet...)
	return nil
}

// Write implements [net.Conn].
func (c *inOrder) Write(p []byte) (int, error) {
	c.out.Lock()
	defer c.out.Unlock()
	n, err := c.Conn.Write(p)
	c.sent(p[:n])
	if err != nil {
		return n, err
	}
	return n, c.flush()
}

// sent keeps account of where in its packet the caller is.
func (c *inOrder) sent(p []byte) {
	for len(p) > 0 {
		if c.unsent == 0 {
			have := min(4-len(c.partial), len(p))
			c.partial, p = append(c.partial, p[:have]...), p[have:]
			if len(c.partial) < 4 {
				return
			}
			c.unsent = max(binary.BigEndian.Uint32(c.partial), 4) - 4
			c.partial = c.partial[:0]
		}
		n := min(len(p), int(c.unsent))
		c.unsent -= uint32(n)
		p = p[n:]
	}
}

// flush writes the packets that wait, between two of the caller's.
func (c *inOrder) flush() error {
	for c.unsent == 0 && len(c.partial) == 0 && len(c.finishes) > 0 {
		if _, err := c.Conn.Write(c.finishes[0]); err != nil {
			return err
		}
		c.finishes = c.finishes[1:]
	}
	return nil
}

// finish writes a packet as soon as that can be. A connection that breaks is
// noticed by those who have something to say.
func (c *inOrder) finish(packet []byte) {
	c.out.Lock()
	defer c.out.Unlock()
	c.finishes = append(c.finishes, packet)
	_ = c.flush()
}
