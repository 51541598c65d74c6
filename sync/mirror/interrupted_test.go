package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/sshtest"
	"github.com/hostctl/hostctl/internal/wait"
)

// cutting is a way to the server that breaks once so many bytes went through
// it in one direction.
type cutting struct {
	after atomic.Int64 // 0: never
	sent  atomic.Int64
}

func (c *cutting) listen(t *testing.T, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to.String())
			if err != nil {
				_ = here.Close()
				continue
			}
			copyTo := func(dst, src net.Conn) {
				_, _ = io.Copy(&counting{dst, c}, src)
				_, _ = here.Close(), there.Close()
			}
			go copyTo(there, here)
			go copyTo(here, there)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

type counting struct {
	net.Conn
	c *cutting
}

func (w *counting) Write(p []byte) (int, error) {
	if sent := w.c.sent.Add(int64(len(p))); w.c.after.Load() > 0 && sent > w.c.after.Load() {
		return 0, errors.New("cut")
	}
	return w.Conn.Write(p)
}

// A large file goes on where it was when the connection broke, in either
// direction, and what arrives is what was sent.
func TestResume(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t)
	const size = 64 << 20
	for _, fromGuest := range []bool{false, true} {
		t.Run(fmt.Sprint("from guest ", fromGuest), func(t *testing.T) {
			t.Parallel()
			way := &cutting{}
			way.after.Store(size / 2)
			target := server.Target
			target.Addr = way.listen(t, server.Target.Addr)
			b := newBench(t, nil, true)
			root, other := b.cfg.Host, b.cfg.Guest
			if fromGuest {
				root, other = other, root
				if err := os.Mkdir(root, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			content := make([]byte, size)
			chacha := rand.NewChaCha8([32]byte{1})
			_, _ = chacha.Read(content)
			if err := os.WriteFile(filepath.Join(root, "large"), content, 0o644); err != nil {
				t.Fatal(err)
			}
			client, err := sshclient.Dial(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = Sync(t.Context(), client, b.cfg); !errors.Is(err, sshclient.ErrLost) {
				t.Fatalf("Sync over a broken connection: %v", err)
			}
			_ = client.Close()
			if _, err := os.Stat(filepath.Join(other, "large")); err == nil {
				t.Error("half a file is in its place")
			}
			way.after.Store(0)
			way.sent.Store(0)
			b.conn, err = sshclient.Dial(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			b.sync()
			_ = b.conn.(*sshclient.Client).Close()
			if sent := way.sent.Load(); sent > size*3/4 {
				t.Errorf("%d of %d bytes went again", sent, size)
			}
			got, err := os.ReadFile(filepath.Join(other, "large"))
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("another content arrived: %v", err)
			}
		})
	}
}

// A part that is not the beginning of the file is not gone on with.
func TestResumeVerifies(t *testing.T) {
	t.Parallel()
	b := newBench(t, dial(t, sshtest.Start(t)), false)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	write(t, b.cfg.Host, files{"large": string(content)})
	e, err := os.Stat(filepath.Join(b.cfg.Host, "large"))
	if err != nil {
		t.Fatal(err)
	}
	part := "part-" + partName("large", &entry{kind: file, size: e.Size(), mtime: e.ModTime().UnixNano()})
	write(t, b.cfg.Guest, files{guestDir + "/" + part: string(bytes.Repeat([]byte("x"), len(content)-1))})
	b.sync()
	b.same()
}

// Whatever moment it is killed at, the next run brings both sides together.
func TestKilled(t *testing.T) {
	t.Parallel()
	conn := dial(t, sshtest.Start(t))
	b := newBench(t, conn, true)
	rnd := rand.New(rand.NewPCG(7, 7))
	for n := range 3 {
		for i := range 20 {
			write(t, b.cfg.Host, files{fmt.Sprintf("h%d/d%d/f", n, i): fmt.Sprint("host ", n, i), "both": fmt.Sprint("host ", n)})
			write(t, b.cfg.Guest, files{fmt.Sprintf("g%d/d%d/f", n, i): fmt.Sprint("guest ", n, i)})
		}
		ctx, cancel := context.WithCancel(t.Context())
		killed := &killing{Conn: conn, after: int64(rnd.IntN(4)), kill: cancel}
		_, _ = Sync(ctx, killed, b.cfg) // how far it came is chance
		cancel()
		if n%3 == 2 {
			b.settle()
			b.same()
		}
	}
}

// killing ends the run at one of its requests.
type killing struct {
	Conn
	after int64
	n     atomic.Int64
	kill  func()
}

func (k *killing) Exec(ctx context.Context, command string, s sshclient.Streams) (int, error) {
	if k.n.Add(1) > k.after {
		k.kill()
	}
	return k.Conn.Exec(ctx, command, s)
}

// What was in a directory that is a file or a link now is gone.
func TestRescanOfAnotherKind(t *testing.T) {
	t.Parallel()
	for _, now := range []string{"a file", "-> /usr", "-> e"} {
		folder := t.TempDir()
		write(t, folder, files{"d": now, "e/x/y": "1"})
		root, err := os.OpenRoot(folder)
		if err != nil {
			t.Fatal(err)
		}
		h := &host{root: root, skip: NewMatcher(nil)}
		s := &scanned{tree: tree{"d": {kind: dir}, "d/x": {kind: dir}, "d/x/y": {kind: file}}}
		if err := h.rescan(s, []string{"d/x/y", "d/x", "d"}); err != nil {
			t.Errorf("%s: %v", now, err)
		}
		if len(s.tree) != 1 || s.tree["d"] == nil || s.tree["d"].kind == dir {
			t.Errorf("%s: %v", now, s.tree)
		}
		_ = root.Close()
	}
}

// A listing that was not whole once, as when a file goes while find is at it,
// says nothing of the next one.
func TestListedInPart(t *testing.T) {
	t.Parallel()
	conn := &inPart{Conn: dial(t, sshtest.Start(t))}
	b := newBench(t, conn, true)
	write(t, b.cfg.Host, files{"a": "one"})
	b.sync()
	g := &guest{conn: conn, root: b.cfg.Guest, skip: NewMatcher(nil)}
	defer g.connect(t.Context())()
	conn.next.Store(true)
	if _, err := once(t.Context(), g, b.cfg, nil); err == nil || !strings.Contains(err.Error(), "not all of it can be read") {
		t.Errorf("a listing in part: %v", err)
	}
	if _, err := once(t.Context(), g, b.cfg, nil); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// inPart has the next command end as find does that could not read all.
type inPart struct {
	Conn
	next atomic.Bool
}

func (c *inPart) Exec(ctx context.Context, command string, s sshclient.Streams) (int, error) {
	exit, err := c.Conn.Exec(ctx, command, s)
	if err == nil && c.next.Swap(false) {
		exit = 1
		_, err = io.WriteString(s.Err, "find: './b': No such file or directory")
	}
	return exit, err
}

// A guest without a shell for us is mirrored by SFTP alone.
func TestWithoutShell(t *testing.T) {
	t.Parallel()
	b := newBench(t, noShell{dial(t, sshtest.Start(t))}, true)
	write(t, b.cfg.Host, files{"a": "one", "d/b": "two", "d/e/": "", "l": "-> d/b", "big": string(make([]byte, 3<<20))})
	b.settle()
	b.same()
	write(t, b.cfg.Guest, files{"a": "three", "n/c": "new"})
	if err := os.Remove(filepath.Join(b.cfg.Guest, "d", "b")); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.same()
	if got := read(t, b.cfg.Host)["n/c"]; got != "new" {
		t.Errorf("n/c = %q", got)
	}
}

type noShell struct{ *sshclient.Client }

func (noShell) Exec(context.Context, string, sshclient.Streams) (int, error) { return 127, nil }

func (c noShell) SFTP(ctx context.Context, sudo bool, o ...sftp.ClientOption) (*sftp.Client, error) {
	return c.Client.SFTP(ctx, sudo, o...)
}

// Edits arrive by themselves, and none is lost when a file is renamed a
// thousand times.
func TestWatch(t *testing.T) {
	t.Parallel()
	b := newBench(t, dial(t, sshtest.Start(t)), false)
	write(t, b.cfg.Host, files{"a": "one", "d/b": "two"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, b.conn, b.cfg, Watching{}) }()
	await := func(want string) {
		t.Helper()
		bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := wait.Until(bounded, 20*time.Millisecond, func(context.Context) error {
			if _, err := os.Stat(filepath.Join(b.cfg.Guest, want)); err != nil {
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	await("d/b")
	write(t, b.cfg.Host, files{"new/c": "three"})
	await("new/c")
	for n := range 1000 {
		from, to := filepath.Join(b.cfg.Host, fmt.Sprintf("r%d", n-1)), filepath.Join(b.cfg.Host, fmt.Sprintf("r%d", n))
		if n == 0 {
			from = filepath.Join(b.cfg.Host, "a")
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	await("r999")
	write(t, b.cfg.Host, files{"last": "x"})
	await("last")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	b.same()
}

// Any number of shares of one guest are mirrored at the same time: each keeps a
// session, of which sshd gives ten on a connection.
func TestManyShares(t *testing.T) {
	t.Parallel()
	conn := sshclient.NewSessions(dial(t, sshtest.Start(t)))
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	benches := make([]*bench, 12)
	for i := range benches {
		b := newBench(t, conn, false)
		benches[i] = b
		write(t, b.cfg.Host, files{"first": "one"})
		watching.Go(func() {
			done := func(_ *Result, err error) {
				if err != nil && ctx.Err() == nil {
					t.Errorf("share %d: %v", i, err)
				}
			}
			if err := Watch(ctx, conn, b.cfg, Watching{Done: done}); err != nil {
				t.Errorf("share %d: %v", i, err)
			}
		})
	}
	bounded, cancelWait := context.WithTimeout(ctx, time.Minute)
	defer cancelWait()
	for _, name := range []string{"first", "second"} {
		for i, b := range benches {
			if name == "second" {
				write(t, b.cfg.Host, files{name: "two"})
			}
			err := wait.Until(bounded, 20*time.Millisecond, func(context.Context) error {
				_, err := os.Stat(filepath.Join(b.cfg.Guest, name))
				return err
			})
			if err != nil {
				t.Fatalf("share %d: %v", i, err)
			}
		}
	}
}
