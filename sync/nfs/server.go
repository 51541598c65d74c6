//go:build linux || darwin

package nfs

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxConns  = 128 // of all guests, and of strangers: see there
	maxCalls  = 32  // of one connection under way
	sweepTime = 500 * time.Millisecond
	// sendTime ends a connection to a guest that takes no replies. The guest
	// connects anew and asks again.
	sendTime = 90 * time.Second
	// bodyTime is for a message that has begun to arrive whole.
	bodyTime = 90 * time.Second
	// peekSize holds the header of a call and the handle that it begins with.
	peekSize = 2 << 10
)

// Server serves exports. Call Export from one goroutine at a time.
type Server struct {
	log     *slog.Logger
	key     []byte
	volumes atomic.Pointer[volumes]
	awaited atomic.Pointer[map[uint32]bool]
	seal    *sealer
	side    *sideStore
	memory  *buffers
	replies *replies
	replays *Replays // may be nil
	strange strangers
	// writes changes with every start of the server, and when data was lost:
	// guests then send anew what they were not told is safe. RFC 1813, 3.3.7.
	writes atomic.Uint64
}

// volumes are by the number of the export. They are not changed, but replaced.
type volumes map[uint32]*volume

// NewServer opens the exports. What is wrong with one, or a key that is too
// short, is an error.
func NewServer(c Config) (*Server, error) {
	if len(c.Key) < KeySize {
		return nil, fmt.Errorf("the key has %d bytes: it needs %d", len(c.Key), KeySize)
	}
	side, err := openSideStore(c.State)
	if err != nil {
		return nil, err
	}
	s := &Server{
		log: c.Logger, key: c.Key, side: side,
		seal: newSealer(derive(c.Key, "handles", "")), memory: newBuffers(), replies: newReplies(),
		replays: c.Replays,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.newVerifier()
	s.volumes.Store(&volumes{})
	s.Await(nil)
	if err := s.Export(c.Exports); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Export has the server serve exactly these. Of those that it serves already
// guests notice nothing; who asks for one that is no more is told that his handle
// is stale. It waits for no request. A folder that is missing, or a name that is
// taken twice, is an error, and changes nothing.
func (s *Server) Export(exports []Export) error {
	before, now := *s.volumes.Load(), volumes{}
	var opened []*volume
	fail := func(err error) error {
		for _, v := range opened {
			v.files.close()
		}
		return err
	}
	for _, e := range exports {
		id := exportID(s.key, e.Name)
		if now[id] != nil {
			return fail(fmt.Errorf("export %q: the name is taken", e.Name))
		}
		if v := before[id]; v != nil && v.of == e {
			now[id] = v
			continue
		}
		v, err := newVolume(e, s.key, s.side)
		if err != nil {
			return fail(err)
		}
		opened = append(opened, v)
		now[id] = v
	}
	s.volumes.Store(&now)
	for id, v := range before {
		if now[id] != v {
			v.files.close()
		}
	}
	return nil
}

// Await has guests that use one of these exports, by name, try again later rather
// than take their handles for stale, while the server does not have it.
func (s *Server) Await(names []string) {
	awaited := make(map[uint32]bool)
	for _, name := range names {
		awaited[exportID(s.key, name)] = true
	}
	s.awaited.Store(&awaited)
}

// volume is the export with the number, or nil.
func (s *Server) volume(export uint32) *volume { return (*s.volumes.Load())[export] }

// absent is what guests are told of an export that there is not.
func (s *Server) absent(export uint32) error {
	if (*s.awaited.Load())[export] {
		return errJukebox
	}
	return errStale
}

func (s *Server) newVerifier() {
	var b [8]byte
	rand.Read(b[:]) // never fails, says its documentation
	s.writes.Store(binary.BigEndian.Uint64(b[:]))
}

// Close releases what the server has open. Call it when Serve has returned.
func (s *Server) Close() error {
	for _, v := range *s.volumes.Load() {
		v.files.close()
	}
	return s.side.close()
}

// Serve answers on l until ctx ends, which is no error, and closes l. Requests
// that are under way end before it returns. It may be called for several
// listeners at one time.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { s.sweep(ctx) })
	var busy relief
	tasks.Go(func() { busy.watch(ctx) })
	slots := make(chan struct{}, maxConns)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		nc, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			<-slots
			s.log.Debug("accept", "err", err)
			select { // no resources, which others give back
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		tasks.Go(func() {
			defer func() { <-slots }()
			s.converse(ctx, nc, &busy)
		})
	}
}

func (s *Server) sweep(ctx context.Context) {
	t := time.NewTicker(sweepTime)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			for _, v := range *s.volumes.Load() {
				go v.files.sweep(now) // a close on a disk that hangs takes as long
			}
			s.replies.sweep(now)
		case <-ctx.Done():
			return
		}
	}
}

// conn is a connection of a guest, or of a stranger: it is known when it has
// shown a handle or a path that only guests know.
type conn struct {
	s     *Server
	sock  *socket
	in    *bufio.Reader
	known atomic.Bool
	large *allowance
	calls chan struct{} // slots for calls, but those with large messages
	tasks sync.WaitGroup
	send  sync.Mutex
	turn  turn
	ended chan struct{} // closed when nobody reads any more
}

func (s *Server) converse(ctx context.Context, nc net.Conn, busy *relief) {
	sock, err := newSocket(nc, bodyTime, sendTime)
	if err != nil {
		s.log.Warn("nfs connection", "client", nc.RemoteAddr(), "err", err)
		return
	}
	defer sock.close()
	defer sock.shutAfter(ctx)()
	c := &conn{
		s: s, sock: sock, in: bufio.NewReaderSize(sock, 32<<10),
		large: newAllowance(), calls: make(chan struct{}, maxCalls), ended: make(chan struct{}),
	}
	defer busy.of(c)()
	defer s.strange.of(c)()
	c.read(ctx)
	<-c.ended
	c.tasks.Wait()
}

// read takes calls in turn. Who has read a call makes it, as handing it on
// takes time: another one goes on to read, unless it will be done soon.
func (c *conn) read(ctx context.Context) {
	scheduled := time.Now()
	for {
		msg, err := c.receive()
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				c.s.log.Debug("nfs connection", "client", c.sock.remote, "err", err)
			}
			close(c.ended)
			return
		}
		if c.in.Buffered() == 0 && !c.turn.heldUp() && isQuick(msg.b) {
			call := c.turn.begin()
			c.answer(msg, func() {
				if c.turn.takeFrom(call) {
					c.readOn(ctx)
				}
			})
			if !c.turn.end() {
				return // it took long, and another one reads
			}
			if now := time.Now(); now.Sub(scheduled) > slice {
				runtime.Gosched()
				scheduled = now
			}
			continue
		}
		if msg.large {
			// Calls that have slots may be waiting for the buffer that this one has.
			c.readOn(ctx)
			c.answer(msg, func() {})
			return
		}
		c.calls <- struct{}{}
		c.readOn(ctx)
		c.answer(msg, func() {})
		<-c.calls
		return
	}
}

// readOn has another one read. Whose turn it was does not end the connection, so
// that its tasks are not waited for before this is one.
func (c *conn) readOn(ctx context.Context) { c.tasks.Go(func() { c.read(ctx) }) }

// slice is less than the 10 ms after which the runtime takes a goroutine that was
// not scheduled anew for one that computes, and looks every 20 us whether it can
// take its processor away.
const slice = 5 * time.Millisecond

// quickData is how many bytes are moved in less time than it takes to have
// another goroutine, on another processor, go on to read.
const quickData = 64 << 10

// quickTime is how long lists are made in before they count as long.
const quickTime = time.Millisecond

// isQuick tells whether the call of a message neither moves much data nor
// waits for the disk, but to read what is not in memory. How long a list takes
// shows when it is made.
func isQuick(msg []byte) bool {
	var c call
	if fault, isCall := parseCall(msg, &c); !isCall || fault != nil || c.prog != progNFS {
		return false
	}
	switch c.proc {
	case procRead, procWrite:
		c.args.opaque(64) // the handle
		c.args.u64()
		return c.args.u32() <= quickData && (c.proc == procRead || c.args.u32() == unstable)
	case procCommit:
		return false
	}
	return true
}

var (
	errTooLarge = errors.New("the message is too large")
	errStranger = errors.New("a large message from a stranger")
)

// receive reads a record, of which the fragments may be many. Memory is taken
// for what is there, and for what a guest has announced: strangers get little.
func (c *conn) receive() (*buffer, error) {
	var whole *buffer
	fail := func(err error) (*buffer, error) {
		c.s.memory.put(whole, c.large)
		return nil, err
	}
	_, err := c.in.Peek(1)
	for errors.Is(err, errIdle) && c.known.Load() {
		_, err = c.in.Peek(1) // guests have nothing to say for hours
	}
	if err != nil {
		return nil, err // strangers give their place back
	}
	until := time.Now().Add(bodyTime)
	for {
		var mark [4]byte
		if err := c.fill(mark[:], until); err != nil {
			return fail(err)
		}
		m := binary.BigEndian.Uint32(mark[:])
		n, last := int(m&^lastFragment), m&lastFragment != 0
		have := 0
		if whole != nil {
			have = len(whole.b)
		}
		if n > maxRecord-have || n == 0 && !last {
			return fail(errTooLarge)
		}
		if whole == nil || !whole.large && have+n > small {
			if have+n > small {
				if err := c.mayBeLarge(whole, n); err != nil {
					return fail(err)
				}
			}
			b := c.s.memory.get(have+n, c.large)
			if whole != nil {
				b.b = append(b.b, whole.b...)
				c.s.memory.put(whole, c.large)
			}
			whole = b
		}
		whole.b = whole.b[:have+n]
		if err := c.fill(whole.b[have:], until); err != nil {
			return fail(err)
		}
		if last {
			return whole, nil
		}
		if !whole.large && cap(whole.b) < small {
			return fail(errTooLarge)
		}
	}
}

// fill reads all of b, until then.
func (c *conn) fill(b []byte, until time.Time) error {
	for len(b) > 0 {
		n, err := c.in.Read(b)
		if b = b[n:]; len(b) == 0 {
			break
		}
		if err == nil && time.Now().After(until) {
			err = errIdle
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayBeLarge says what is against a large message, of which some may have begun, and
// n bytes come next. Only WRITEs carry so much: names and paths are short. A call
// with a large reply as well would have one buffer and wait for another.
func (c *conn) mayBeLarge(begun *buffer, n int) error {
	var head []byte
	if begun != nil {
		head = begun.b
	} else {
		var err error
		if head, err = c.in.Peek(min(n, peekSize)); err != nil {
			return err
		}
	}
	var call call
	fault, isCall := parseCall(head, &call)
	if !isCall || fault != nil || call.prog != progNFS || call.proc != procWrite {
		return errTooLarge
	}
	if !c.known.Load() {
		if _, err := c.s.seal.open(call.args.opaque(64)); err != nil {
			return errStranger
		}
		c.known.Store(true)
	}
	return nil
}

// answer makes a call and sends its reply. A call that takes long calls takesLong.
func (c *conn) answer(msg *buffer, takesLong func()) {
	var r request
	defer func() {
		c.s.memory.put(msg, c.large)
		c.s.memory.put(r.out, c.large)
	}()
	r.conn, r.s, r.takesLong = c, c.s, takesLong
	fault, isCall := parseCall(msg.b, &r.call)
	if !isCall {
		return
	}
	r.out = c.s.memory.get(0, nil)
	r.w.b = r.out.b
	switch {
	case fault != nil:
		r.w.deny(r.xid, fault)
	default:
		c.s.replies.once(&r, msg.b)
	}
	r.w.end()
	r.out.b = r.w.b
	c.send.Lock()
	defer c.send.Unlock()
	if _, err := c.sock.Write(r.w.b); err != nil {
		c.sock.shut() // what reads ends, too
	}
}
