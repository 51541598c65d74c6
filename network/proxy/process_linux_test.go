package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/wait"
)

// proxyInProcess starts a proxy for g in a process of its own, with so many
// file descriptors, and returns its address. It is the program of
// scripts/bench/forward.sh, built for the purpose: the race detector, with
// which tests run, takes ten times the memory.
func proxyInProcess(t *testing.T, g *net.TCPListener, files uint64) (addr string, pid int) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "forward")
	if out, err := exec.Command("go", "build", "-o", program, "../../scripts/bench/forward").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command("/bin/sh", "-c", `ulimit -n "$0" && exec "$@"`, fmt.Sprint(files), program, "proxy", "127.0.0.1:0", g.Addr().String())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	addr, err = bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(addr), cmd.Process.Pid
}

// resident returns a process's memory in KiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var kib int
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// echoTCP answers on every connection and counts them.
func echoTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	g := guest(t)
	go func() {
		for {
			c, err := g.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return g
}

// Ten thousand connections that were used and are idle now fit into 100 MiB
// with what the process needs anyway.
func TestIdleConnectionsAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 10,000 connections")
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	// This process has both ends of what the other one has.
	connections := min(10_000, int(files.Max-100)/2)
	if connections < 1000 {
		t.Fatalf("%d open files are too few to tell; raise the hard limit (ulimit -Hn)", files.Max)
	}
	addr, pid := proxyInProcess(t, echoTCP(t), files.Max)
	before := resident(t, pid)
	var (
		mu    sync.Mutex
		conns []net.Conn
		all   errgroup.Group
	)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	all.SetLimit(32)
	for range connections {
		all.Go(func() error {
			c, err := net.Dial("tcp4", addr)
			if err != nil {
				return err
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			return pingPong(c)
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	grown := resident(t, pid) - before
	t.Logf("%d connections take %d MiB, %.1f KiB each; the process took %d MiB before", connections, grown>>10, float64(grown)/float64(connections), before>>10)
	if grown > 5*connections {
		t.Error("that is more than 5 KiB each")
	}
	for _, c := range conns[:100] {
		if err := pingPong(c); err != nil {
			t.Fatalf("after being idle: %v", err)
		}
	}
}

func pingPong(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	const ping = "are you there?"
	if _, err := io.WriteString(c, ping); err != nil {
		return err
	}
	pong := make([]byte, len(ping))
	if _, err := io.ReadFull(c, pong); err != nil {
		return err
	}
	if string(pong) != ping {
		return fmt.Errorf("got %q", pong)
	}
	return nil
}

// A process that runs out of file descriptors serves clients when others have
// gone. While they wait it does not spin.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	const files = 64
	addr, pid := proxyInProcess(t, echoTCP(t), files)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range 2 * files {
		c, err := net.Dial("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := wait.Until(ctx, time.Millisecond, func(context.Context) error { return hasFiles(pid, files) }); err != nil {
		t.Fatal(err)
	}
	// The last one is served when others have gone, not before.
	last := conns[len(conns)-1]
	busy, began := cpuTime(t, pid), time.Now()
	if _, err := io.WriteString(last, "are you there?"); err != nil {
		t.Fatal(err)
	}
	if err := last.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := last.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d connections at %d files: read %d, %v", len(conns), files, n, err)
	}
	if spent := cpuTime(t, pid) - busy; spent > time.Since(began)/4 {
		t.Errorf("it took %v of CPU to wait for %v", spent, time.Since(began))
	}
	var others errgroup.Group
	for _, c := range conns[:len(conns)-1] {
		others.Go(func() error {
			defer c.Close()
			return pingPong(c)
		})
	}
	if err := others.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := last.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	read(t, last, "are you there?")
}

// hasFiles fails while the process has fewer open files.
func hasFiles(pid, want int) error {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err == nil && len(files) < want {
		err = fmt.Errorf("%d files are open, not %d", len(files), want)
	}
	return err
}

// cpuTime returns how much CPU a process has used.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// proc(5): utime and stime are the 14th and 15th, in ticks of 10 ms.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var user, system int
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
