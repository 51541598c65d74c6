// Command forward is the load of scripts/bench/forward.sh, the far end of it in
// the guest, and the agent's proxy in a process of its own.
//
//	forward serve ADDR                        answers load
//	forward proxy LISTEN DIAL                 prints its address, forwards until its input ends
//	forward load ADDR up|down STREAMS TIME    prints MB/s
//	forward idle ADDR COUNT PID               prints the KiB that PID, the proxy, takes with so many idle connections
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/network/proxy"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "forward:", err)
		os.Exit(1) //nolint:forbidigo // a program of its own
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1])
	case len(args) == 3 && args[0] == "proxy":
		return forward(ctx, args[1], args[2])
	case len(args) == 5 && args[0] == "load":
		streams, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(args[4])
		if err != nil {
			return err
		}
		return load(ctx, args[1], args[2], streams, d)
	case len(args) == 4 && args[0] == "idle":
		count, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return idle(ctx, args[1], count, args[3])
	default:
		return errors.New("see the head of main.go")
	}
}

// The first byte of a connection says what it is for.
const (
	up   = 'u' // the client sends until it ends its direction, and gets a byte then
	down = 'd' // the server sends until the client has gone
	echo = 'e'
)

const block = 128 << 10

func serve(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			// Whoever ends the connection ends the load: errors are no news.
			_ = answer(c)
		}()
	}
}

func answer(c net.Conn) error {
	var what [1]byte
	if _, err := io.ReadFull(c, what[:]); err != nil {
		return err
	}
	buf := make([]byte, 1)
	if what[0] != echo {
		buf = make([]byte, block)
	}
	for {
		n := len(buf)
		var err error
		if what[0] != down {
			n, err = c.Read(buf)
			if errors.Is(err, io.EOF) && what[0] == up {
				_, err = c.Write(what[:])
				return err
			}
		}
		if err == nil && what[0] != up {
			_, err = c.Write(buf[:n])
		}
		if err != nil {
			return err
		}
	}
}

func forward(ctx context.Context, listen, to string) error {
	at, err := netip.ParseAddrPort(listen)
	if err != nil {
		return err
	}
	f := network.Forward{Name: "bench", Protocol: "tcp", HostIP: at.Addr(), HostPort: at.Port()}
	l, err := proxy.Listen(ctx, f, func(ctx context.Context) (net.Conn, error) { return dial(ctx, to) }, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, l.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, l.Close())
}

func load(ctx context.Context, addr, direction string, streams int, d time.Duration) error {
	var moved atomic.Int64
	var all errgroup.Group
	start := time.Now()
	for range streams {
		all.Go(func() error {
			c, err := dial(ctx, addr)
			if err != nil {
				return err
			}
			defer c.Close()
			n, err := one(c, direction, start.Add(d))
			moved.Add(n)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%.2f\n", float64(moved.Load())/1e6/time.Since(start).Seconds())
	return nil
}

// one sends or gets until the deadline and returns how much arrived.
func one(c net.Conn, direction string, deadline time.Time) (int64, error) {
	if _, err := c.Write([]byte{direction[0]}); err != nil {
		return 0, err
	}
	var moved int64
	buf := make([]byte, block)
	for time.Now().Before(deadline) {
		move := c.Write
		if direction[0] == down {
			move = c.Read
		}
		n, err := move(buf)
		moved += int64(n)
		if err != nil {
			return moved, err
		}
	}
	if direction[0] == down {
		return moved, nil
	}
	// What is under way still counts, and so does its time.
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return moved, err
	}
	_, err := io.ReadFull(c, buf[:1])
	return moved, err
}

func idle(ctx context.Context, addr string, count int, pid string) error {
	conns := make([]net.Conn, count)
	var all errgroup.Group
	all.SetLimit(16)
	for i := range conns {
		all.Go(func() (err error) {
			conns[i], err = dial(ctx, addr)
			if err != nil {
				return err
			}
			return ping(conns[i])
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	kib, err := resident(pid)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, kib)
	return nil
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func ping(c net.Conn) error {
	buf := []byte{echo, '!'}
	if _, err := c.Write(buf); err != nil {
		return err
	}
	_, err := io.ReadFull(c, buf[:1])
	return err
}

// resident returns the KiB of memory of a process.
func resident(pid string) (int, error) {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, err
	}
	kib := 0
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	_, err = fmt.Sscan(rest, &kib)
	return kib, err
}
