package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/wait"
)

// stacks are those of all goroutines.
func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// allParked waits until no direction has a goroutine. Tests that call it do
// not run beside others.
func allParked(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := wait.Until(ctx, time.Millisecond, func(context.Context) error {
		if all := stacks(); strings.Contains(all, "(*direction).carry") {
			return errors.New(all)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What happens to a connection that is parked happens as to any other.
func TestParked(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, a, b *net.TCPConn)
	}{
		{"data", func(t *testing.T, a, b *net.TCPConn) {
			write(t, a, "question")
			read(t, b, "question")
			allParked(t)
			write(t, b, "answer")
			read(t, a, "answer")
		}},
		{"end", func(t *testing.T, a, b *net.TCPConn) {
			if err := a.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(b); err != nil || len(got) > 0 {
				t.Fatalf("got %q, %v", got, err)
			}
			allParked(t)
			write(t, b, "answer")
			read(t, a, "answer")
			allParked(t)
			b.Close()
			if got, err := io.ReadAll(a); err != nil || len(got) > 0 {
				t.Fatalf("got %q, %v", got, err)
			}
		}},
		{"reset", func(t *testing.T, a, b *net.TCPConn) {
			reset(a)
			isReset(t, b)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, first := range []string{"client", "guest"} {
				a, b := through(t)
				if first == "guest" {
					a, b = b, a
				}
				write(t, a, "hello")
				read(t, b, "hello")
				allParked(t)
				c.do(t, a, b)
			}
		})
	}
}

func TestCloseWhileParked(t *testing.T) {
	l, client, server := throughListener(t)
	write(t, client, "hello")
	read(t, server, "hello")
	allParked(t)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	isReset(t, client)
	isReset(t, server)
}

// Pauses about as long as it takes to be parked lose nothing.
func TestParkingAndGoingOn(t *testing.T) {
	t.Parallel()
	l := start(t, "tcp", to("tcp4", echoTCP(t).Addr().String()), defaults)
	var all errgroup.Group
	for range 50 {
		all.Go(func() error {
			c, err := net.Dial("tcp4", l.Addr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			for range 40 {
				if err := pingPong(c); err != nil {
					return err
				}
				<-time.After(untilParked - 2*time.Millisecond + rand.N(4*time.Millisecond))
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

// Connections that are over leave no goroutine and no file.
func TestNothingStays(t *testing.T) {
	g := echoTCP(t)
	l := start(t, "tcp", to("tcp4", g.Addr().String()), defaults)
	before := openFiles(t)
	for i := range 30 {
		c := dialTCP(t, l.Addr().String())
		if err := pingPong(c); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			reset(c)
		}
		c.Close()
	}
	allParked(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := wait.Until(ctx, time.Millisecond, func(context.Context) error {
		if now := openFiles(t); now > before {
			return fmt.Errorf("%d files are open, %d were", now, before)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
