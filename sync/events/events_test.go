//go:build linux || darwin

package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/sync/nfs"
	"github.com/hostctl/hostctl/sync/watch"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shell is a guest that does what it is told in a folder of its own, where a
// real one has the mount.
type shell struct {
	dir   string
	hangs atomic.Bool
	fails atomic.Int64 // times
	runs  atomic.Int64
}

func (g *shell) Exec(ctx context.Context, command string, in io.Reader, out, errs io.Writer) (int, error) {
	g.runs.Add(1)
	if g.fails.Add(-1) >= 0 {
		fmt.Fprintln(out, "/guest/code is not mounted")
		return 1, nil
	}
	if !strings.Contains(command, "unshare") || !strings.HasSuffix(command, " '/guest/code'") {
		return 0, fmt.Errorf("unexpected command: %s", command)
	}
	if g.hangs.Load() {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", replay)
	// A folder that goes is a ghost, with nothing in it.
	cmd.Env = []string{"PATH=" + filepath.Join(g.dir, "bin") + ":" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = g.dir, in, out, errs
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func (g *shell) path(p string) string { return filepath.Join(g.dir, "share", "0", p) }

// world is a folder on the host, and a guest that is told of it.
type world struct {
	t     *testing.T
	host  string
	guest *shell
	hub   *Hub
	share Share
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, host: t.TempDir(), guest: &shell{dir: t.TempDir()}}
	must(t, os.MkdirAll(w.guest.path(""), 0o755))
	must(t, os.Mkdir(filepath.Join(w.guest.dir, "bin"), 0o755))
	must(t, os.WriteFile(filepath.Join(w.guest.dir, "bin", "rmdir"), []byte("#!/bin/sh\nexec rm -rf \"$@\"\n"), 0o755))
	w.hub = New(nfs.NewReplays(), slog.New(slog.DiscardHandler))
	w.share = Share{Export: "code", Host: w.host, Guest: "/guest/code"}
	return w
}

func (w *world) keep() { w.keepNoticing(nil) }

func (w *world) keepNoticing(notice func(error)) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.hub.Keep(ctx, []Share{w.share}, func(context.Context) (Guest, func(), error) { return w.guest, func() {}, nil }, notice)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-ended
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		if len(w.hub.feeds) > 0 {
			w.t.Errorf("%d folders are watched for nobody", len(w.hub.feeds))
		}
	})
	w.await("the watcher", func() error {
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		f := w.hub.feeds[w.share.watched()]
		if f == nil || len(f.members) == 0 {
			return errors.New("none")
		}
		select {
		case <-f.ready:
			return nil
		default:
			return errors.New("not ready")
		}
	})
}

func (w *world) await(what string, holds func() error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := wait.Until(ctx, 10*time.Millisecond, func(context.Context) error { return holds() }); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

func (w *world) awaitKind(p string, kind fs.FileMode) {
	w.t.Helper()
	w.await(p, func() error {
		i, err := os.Lstat(w.guest.path(p))
		if err != nil {
			return err
		}
		if i.Mode().Type() != kind {
			return fmt.Errorf("%s is %s", p, i.Mode())
		}
		return nil
	})
}

func (w *world) awaitGone(p string) {
	w.t.Helper()
	w.await(p, func() error {
		_, err := os.Lstat(w.guest.path(p))
		switch {
		case err == nil:
			return errors.New("it is there")
		case errors.Is(err, fs.ErrNotExist):
			return nil
		}
		return err
	})
}

// names that a shell, or a program that reads lines, could take for more.
var names = []string{
	"plain", "with space", "new\nline", "tab\t", "quote'", `double"`, "$(touch pwned)", "`touch pwned`", ";touch pwned",
	"-rf", "--help", "{}", "*", "~", "\\", "%s", "\x01\x81\xff", "ünï", "=", "done 1", strings.Repeat("x", 255),
}

// Files of any name are made, written, touched and removed once more, and
// nothing else happens.
func TestNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keep()
	for _, n := range names {
		must(t, os.WriteFile(filepath.Join(w.host, n), []byte("1"), 0o644))
		must(t, os.Mkdir(filepath.Join(w.host, n[:min(len(n), 250)]+".d"), 0o755))
	}
	for _, n := range names {
		w.awaitKind(n, fs.ModeNamedPipe)
		w.awaitKind(n[:min(len(n), 250)]+".d", fs.ModeDir)
		// A fifo would not be opened: what is written to is a file.
		must(t, os.Remove(w.guest.path(n)))
		must(t, os.WriteFile(w.guest.path(n), []byte("guest"), 0o644))
		must(t, os.Chtimes(w.guest.path(n), time.Unix(1, 0), time.Unix(1, 0)))
	}
	for _, n := range names {
		must(t, os.WriteFile(filepath.Join(w.host, n), []byte("22"), 0o644))
	}
	for _, n := range names {
		w.await("the write to "+n, func() error {
			i, err := os.Stat(w.guest.path(n))
			if err == nil && i.ModTime().Unix() == 1 {
				err = errors.New("not written")
			}
			return err
		})
		if b, err := os.ReadFile(w.guest.path(n)); err != nil || string(b) != "guest" {
			t.Errorf("%q: %q, %v", n, b, err)
		}
	}
	for _, n := range names {
		must(t, os.Remove(filepath.Join(w.host, n)))
		must(t, os.Remove(filepath.Join(w.host, n[:min(len(n), 250)]+".d")))
	}
	for _, n := range names {
		w.awaitGone(n)
		w.awaitGone(n[:min(len(n), 250)] + ".d")
	}
	for _, dir := range []string{w.guest.dir, w.guest.path("")} {
		if _, err := os.Lstat(filepath.Join(dir, "pwned")); err == nil {
			t.Error("a name was executed")
		}
	}
}

// A tree comes and goes in an order in which that is possible.
func TestTree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keep()
	for i := range 300 {
		dir := filepath.Join(w.host, "tree", fmt.Sprint(i%7), fmt.Sprint(i%3))
		must(t, os.MkdirAll(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644))
	}
	for i := range 300 {
		w.awaitKind(fmt.Sprintf("tree/%d/%d/%d", i%7, i%3, i), fs.ModeNamedPipe)
	}
	must(t, os.RemoveAll(filepath.Join(w.host, "tree")))
	w.awaitGone("tree")
}

// A guest whose mount comes later is told from then on.
func TestRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.guest.fails.Store(1)
	notices := make(chan error, 10)
	w.keepNoticing(func(err error) { notices <- err })
	if err := <-notices; err == nil || err.Error() != "/guest/code is not mounted" {
		t.Errorf("told: %v", err)
	}
	if err := <-notices; err != nil {
		t.Errorf("told when it went well: %v", err)
	}
	if runs := w.guest.runs.Load(); runs != 2 {
		t.Errorf("%d attempts, want 2", runs)
	}
	must(t, os.WriteFile(filepath.Join(w.host, "file"), nil, 0o644))
	w.awaitKind("file", fs.ModeNamedPipe)
}

// A guest that hangs holds up neither what watches nor the end.
func TestGuestHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.guest.hangs.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := w.hub.follow(ctx, w.guest, []Share{w.share}, func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("follow: %v", err)
	}
}

func TestTroubleIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keep()
	if err := w.hub.Trouble("code"); err != nil {
		t.Errorf("trouble without any: %v", err)
	}
	must(t, os.Rename(w.host, w.host+".aside"))
	w.await("the trouble", func() error {
		err := w.hub.Trouble("code")
		switch {
		case err == nil:
			return errors.New("none")
		case errors.Is(err, watch.ErrGone):
			return nil
		}
		return err
	})
}

// file is what a watcher has found.
type file struct {
	fs.FileInfo
	size int64
}

func (f file) Size() int64 { return f.size }

func TestQueueCoalesces(t *testing.T) {
	t.Parallel()
	full := file{size: 3}
	for name, c := range map[string]struct {
		changes []watch.Change
		want    string
	}{
		"made and written":   {[]watch.Change{{Kind: watch.Created, Info: file{}}, {Kind: watch.Modified, Info: full}}, "create write"},
		"made with contents": {[]watch.Change{{Kind: watch.Created, Info: full}}, "create write"},
		"comes and goes":     {[]watch.Change{{Kind: watch.Created, Info: full}, {Kind: watch.Removed}}, ""},
		"written and gone":   {[]watch.Change{{Kind: watch.Modified, Info: full}, {Kind: watch.Removed}}, "remove"},
		"goes and comes":     {[]watch.Change{{Kind: watch.Removed}, {Kind: watch.Created, Info: file{}}}, "replace attribute"},
		"goes as a folder":   {[]watch.Change{{Kind: watch.Removed, Mode: fs.ModeDir}, {Kind: watch.Created, Info: file{}}}, "rmdir create"},
		"replaced":           {[]watch.Change{{Kind: watch.Replaced, Info: full}}, "replace write"},
		"replaced and gone":  {[]watch.Change{{Kind: watch.Replaced, Info: full}, {Kind: watch.Removed}}, "remove"},
		"made and replaced":  {[]watch.Change{{Kind: watch.Created, Info: file{}}, {Kind: watch.Replaced, Info: full}}, "create write"},
		"chmod":              {[]watch.Change{{Kind: watch.Attributes, Info: full}}, "attribute"},
		"chmod and written":  {[]watch.Change{{Kind: watch.Attributes, Info: full}, {Kind: watch.Modified, Info: full}}, "write attribute"},
	} {
		q := newQueue()
		for _, change := range c.changes {
			change.Path = "f"
			q.add(0, change)
		}
		var got []string
		for _, t := range q.take() {
			for _, w := range []struct {
				is bool
				s  string
			}{{t.remove && t.removeDir, "rmdir"}, {t.remove && !t.removeDir, "remove"}, {t.create, "create"}, {t.replace, "replace"}, {t.write, "write"}, {t.attribute, "attribute"}} {
				if w.is {
					got = append(got, w.s)
				}
			}
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// More than can wait costs no more memory, and its folder is told.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	q := newQueue()
	for i := range 3 * maxPending {
		q.add(0, watch.Change{Path: fmt.Sprintf("dir/%d", i), Kind: watch.Created, Info: file{}})
	}
	all := q.take()
	if len(all) != maxPending+1 {
		t.Errorf("%d wait, want %d", len(all), maxPending+1)
	}
	if all[0].path != "dir" || !all[0].attribute {
		t.Errorf("the folder is not told: %+v", *all[0])
	}
}
