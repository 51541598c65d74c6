package lan

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// The stream has each frame behind its length, 32 bits in network order
// (QEMU 7.2, net/stream.c). Packets here are frames with that length before
// them, so that one can be written to several links as it is.
const (
	lengthSize = 4
	headerSize = 14 // of an Ethernet frame: destination, source, type
	// maxFrame is QEMU's NET_BUFSIZE, the longest it sends.
	maxFrame = 4096 + 65536
)

// errStep is a stream whose next length cannot be one. QEMU 7.2 goes on within
// a frame when it was cut off in one; the next connection begins with a frame.
var errStep = errors.New("the stream is out of step")

// maxQueued bounds what waits for a guest that does not read, such as a paused
// one. What comes then is lost, as a wire loses it: a guest must not stop the
// others.
const maxQueued = 4 << 20

// link is a connection to a guest's card.
type link struct {
	conn net.Conn

	mu     sync.Mutex
	queue  net.Buffers // packets
	queued int         // bytes
	wake   chan struct{}
}

func newLink(conn net.Conn) *link {
	return &link{conn: conn, wake: make(chan struct{}, 1)}
}

// run gives what arrives to receive, and writes what send queues, until the
// connection or ctx ends.
func (l *link) run(ctx context.Context, receive func(frame []byte)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	defer stop()
	written := make(chan struct{})
	go func() {
		defer close(written)
		cancel(l.write(ctx))
	}()
	in := bufio.NewReaderSize(l.conn, 256<<10)
	for {
		packet, err := readPacket(in)
		if err != nil {
			cancel(err)
			<-written
			return context.Cause(ctx)
		}
		if len(packet) >= lengthSize+headerSize {
			receive(packet)
		}
	}
}

// readPacket reads one frame with its length.
func readPacket(in *bufio.Reader) ([]byte, error) {
	head, err := in.Peek(lengthSize)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("%w: a frame of %d bytes", errStep, n)
	}
	packet := make([]byte, lengthSize+n)
	_, err = io.ReadFull(in, packet)
	return packet, err
}

// send queues a packet, or drops it. It never waits, and keeps the packet.
func (l *link) send(packet []byte) {
	l.mu.Lock()
	fits := l.queued+len(packet) <= maxQueued
	if fits {
		l.queue = append(l.queue, packet)
		l.queued += len(packet)
	}
	l.mu.Unlock()
	if !fits {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *link) write(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.wake:
		}
		l.mu.Lock()
		batch := l.queue
		l.queue = nil
		l.mu.Unlock()
		n, err := batch.WriteTo(l.conn)
		l.mu.Lock()
		l.queued -= int(n)
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
}
