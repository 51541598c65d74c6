package libvirt_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/provider"
)

// cutter stands between a provider and libvirtd and lets a number of calls
// through; then it is as if hostctl had been killed.
type cutter struct {
	path string

	mu    sync.Mutex
	left  int
	cut   func()
	conns []net.Conn
}

func newCutter(t *testing.T, calls int, cut func()) *cutter {
	t.Helper()
	c := &cutter{path: filepath.Join(t.TempDir(), "s"), left: calls, cut: cut}
	l, err := net.Listen("unix", c.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", lab.Socket)
			if err != nil {
				client.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, client, server)
			c.mu.Unlock()
			go func() { _, _ = io.Copy(client, server) }()
			go c.pass(server, client)
		}
	}()
	return c
}

// pass copies packets, each of which begins with its length.
func (c *cutter) pass(server io.Writer, client io.Reader) {
	for {
		var length [4]byte
		if _, err := io.ReadFull(client, length[:]); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint32(length[:]))
		copy(packet, length[:])
		if _, err := io.ReadFull(client, packet[4:]); err != nil {
			return
		}
		c.mu.Lock()
		c.left--
		over := c.left < 0
		c.mu.Unlock()
		if over {
			c.end()
			return
		}
		if _, err := server.Write(packet); err != nil {
			return
		}
	}
}

func (c *cutter) end() {
	c.cut()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
}

// Whatever call of libvirt's is the last before hostctl is killed, the next up
// finishes the work, and destroy leaves nothing.
func TestKilledAtEachCall(t *testing.T) {
	lab.Libvirtd(t)
	up := func(ctx context.Context, p provider.Provider, d provider.Domain) error {
		if err := p.Create(ctx, d); err != nil {
			return err
		}
		return p.Start(ctx, d.Name)
	}
	// An uploaded base image is the longer way.
	const through = "qemu+tcp://127.0.0.1/system"
	// Each third is cut here, which is about 20 of them.
	for calls := 2; ; calls += 3 {
		where := newPlace(through, lab.Socket)
		d := newDomain(t, "core", t.TempDir())
		ctx, cancel := context.WithCancel(t.Context())
		c := newCutter(t, calls, cancel)
		killed := where
		killed.uri = "qemu:///system?socket=" + c.path
		err := up(ctx, killed.provider(t, time.Second), d)
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("call %d: %v", calls, err)
		}
		p := where.provider(t, time.Second)
		if calls%2 == 0 {
			if err := up(t.Context(), p, d); err != nil {
				t.Errorf("up after call %d: %v", calls, err)
			} else if st, err := p.Status(t.Context(), "core"); err != nil || st.State != provider.Running {
				t.Errorf("up after call %d: %v, %v", calls, st.State, err)
			}
			// Killed once more, while it removes all that.
			ctx, cancel := context.WithCancel(t.Context())
			again := where
			again.uri = "qemu:///system?socket=" + newCutter(t, calls, cancel).path
			if err := again.provider(t, time.Second).Delete(ctx, "core"); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("destroy cut off at call %d: %v", calls, err)
			}
			cancel()
		}
		if err := p.Delete(t.Context(), "core"); err != nil {
			t.Errorf("destroy after call %d: %v", calls, err)
		}
		for _, left := range leftovers(t, where) {
			t.Errorf("left behind after call %d: %s", calls, left)
		}
		if err == nil {
			t.Logf("it takes fewer than %d calls", calls)
			return
		}
	}
}
