package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/wait"
)

// world is a folder that is watched, and what was told of it.
type world struct {
	t   testing.TB
	dir string

	mu      sync.Mutex
	told    []Change
	notices []error
	there   map[string]bool // what should be there by what was told
	each    func([]Change) error
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	w := &world{t: t, dir: filepath.Join(dir, "share"), there: map[string]bool{}}
	must(t, os.Mkdir(w.dir, 0o755))
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start watches from now on, until the test ends.
func (w *world) start(o Options, change ...func(*Watcher)) {
	w.t.Helper()
	ready := make(chan struct{})
	o.Ready = func() { close(ready) }
	o.Notice = func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notices = append(w.notices, err)
	}
	for p := range w.truth() {
		w.there[p] = true
	}
	watcher := New(w.dir, o)
	for _, f := range change {
		f(watcher)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- watcher.Run(ctx, w.take) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		w.t.Fatalf("Run: %v", err)
	}
}

// take holds the changes to what there was before.
func (w *world) take(changes []Change) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range changes {
		if (c.Kind == Created) == w.there[c.Path] {
			w.t.Errorf("%s %s, and it was there: %v", c.Path, c.Kind, w.there[c.Path])
		}
		if parent := filepath.Dir(c.Path); parent != "." && !w.there[parent] && w.each == nil {
			w.t.Errorf("%s %s without its folder", c.Path, c.Kind)
		}
		if (c.Info == nil) != (c.Kind == Removed) {
			w.t.Errorf("%s %s with info %v", c.Path, c.Kind, c.Info)
		}
		if c.Kind == Removed {
			delete(w.there, c.Path)
		} else {
			w.there[c.Path] = true
		}
	}
	w.told = append(w.told, changes...)
	if w.each != nil {
		return w.each(changes)
	}
	return nil
}

// truth is what is in the folder.
func (w *world) truth() map[string]bool {
	all := map[string]bool{}
	err := filepath.WalkDir(w.dir, func(p string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(w.dir, p); rel != "." && err == nil {
			all[filepath.ToSlash(rel)] = true
		}
		return nil
	})
	must(w.t, err)
	return all
}

func (w *world) path(p string) string { return filepath.Join(w.dir, filepath.FromSlash(p)) }

func (w *world) write(p, s string) {
	w.t.Helper()
	must(w.t, os.WriteFile(w.path(p), []byte(s), 0o644))
}

func (w *world) mkdir(p string) {
	w.t.Helper()
	must(w.t, os.MkdirAll(w.path(p), 0o755))
}

func (w *world) await(what string, holds func() error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := wait.Until(ctx, 5*time.Millisecond, func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		return holds()
	})
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// expect waits until the changes told, sorted and each but once, are these.
func (w *world) expect(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	w.await("changes", func() error {
		got := make([]string, 0, len(w.told))
		for _, c := range w.told {
			got = append(got, c.Kind.String()+" "+c.Path)
		}
		slices.Sort(got)
		got = slices.Compact(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
	w.told = nil
}

// agree waits until what was told comes to what is there.
func (w *world) agree() {
	w.t.Helper()
	truth := w.truth()
	w.await("what is there", func() error {
		for p := range truth {
			if !w.there[p] {
				return fmt.Errorf("%s was not told", p)
			}
		}
		for p := range w.there {
			if !truth[p] {
				return fmt.Errorf("%s was told and is not there", p)
			}
		}
		return nil
	})
}

func (w *world) expectNotice(target error) {
	w.t.Helper()
	w.await(fmt.Sprintf("the notice %v", target), func() error {
		for i, n := range w.notices {
			if n == nil && target == nil || errors.Is(n, target) {
				w.notices = w.notices[i+1:]
				return nil
			}
		}
		return fmt.Errorf("it is not among %v", w.notices)
	})
}

// settle waits until all files were changed long ago.
func (w *world) settle() {
	w.t.Helper()
	w.await("the clock", func() error {
		probe := filepath.Join(filepath.Dir(w.dir), "probe")
		must(w.t, os.WriteFile(probe, nil, 0o600))
		a, err := os.Stat(probe)
		must(w.t, err)
		var newest time.Time
		err = filepath.Walk(w.dir, func(_ string, i os.FileInfo, err error) error {
			if err == nil {
				if t, _ := changeOf(i); t.After(newest) {
					newest = t
				}
			}
			return nil
		})
		must(w.t, err)
		if a.ModTime().Sub(newest) <= 2*freshness {
			return errors.New("not yet")
		}
		return nil
	})
}

func TestChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mkdir("old/deep")
	w.write("old/deep/file", "1")
	w.write("kept", "1")
	w.settle()
	// Each step is told at one time, on a machine that stalls in the middle of it, too.
	w.start(Options{Quiet: 300 * time.Millisecond, Longest: 10 * time.Second})

	w.write("old/deep/file", "22")
	w.expect("modified old/deep/file")
	w.settle()
	w.write("old/deep/file", "33") // the same size
	w.expect("modified old/deep/file")
	w.settle()
	must(t, os.Chmod(w.path("kept"), 0o600))
	must(t, os.Chmod(w.path("old"), 0o700))
	w.expect("attributes kept", "attributes old")
	w.write("new", "1")
	w.expect("created new")
	must(t, os.Symlink("/etc/passwd", w.path("link")))
	w.expect("created link")
	must(t, os.Rename(w.path("new"), w.path("old/renamed")))
	w.expect("removed new", "created old/renamed")
	w.settle()
	w.write("temporary", "2")
	must(t, os.Rename(w.path("temporary"), w.path("kept")))
	w.expect("replaced kept")
	must(t, os.Remove(w.path("kept")))
	w.mkdir("kept/now/folders")
	w.expect("removed kept", "created kept", "created kept/now", "created kept/now/folders")
	must(t, os.RemoveAll(w.path("kept")))
	must(t, os.Remove(w.path("link")))
	w.expect("removed kept/now/folders", "removed kept/now", "removed kept", "removed link")
	w.agree()
}

// A folder that moves is watched where it is, and nothing is told of the old
// place.
func TestFolderMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mkdir("a/b/c")
	w.mkdir("z")
	w.settle()
	w.start(Options{})
	must(t, os.Rename(w.path("a"), w.path("z/a")))
	w.expect("removed a/b/c", "removed a/b", "removed a", "created z/a", "created z/a/b", "created z/a/b/c")
	w.write("z/a/b/c/file", "1")
	w.expect("created z/a/b/c/file")
	// And back, at once: nothing has happened.
	w.settle()
	must(t, os.Rename(w.path("z/a/b"), w.path("b")))
	must(t, os.Rename(w.path("b"), w.path("z/a/b")))
	w.write("z/a/b/c/file2", "1")
	w.await("file2", func() error {
		if !w.there["z/a/b/c/file2"] {
			return errors.New("not told")
		}
		return nil
	})
	w.told = nil
	w.write("z/a/b/file3", "1")
	w.expect("created z/a/b/file3")
	w.agree()
}

// What comes and goes between two looks is nobody's concern.
func TestNothingRemains(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(Options{Quiet: 300 * time.Millisecond, Longest: 10 * time.Second})
	w.write("file", "1")
	w.write("file", "2")
	must(t, os.Remove(w.path("file")))
	w.write("last", "")
	w.expect("created last")
}

// Folders that are made with all that is in them are told whole, however far
// their notifications lag behind.
func TestNewFoldersAreWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(Options{Quiet: time.Millisecond})
	var tasks sync.WaitGroup
	for i := range 4 {
		tasks.Go(func() {
			for j := range 25 {
				dir := w.path(fmt.Sprintf("d%d/%d/x/y", i, j))
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Error(err)
				}
				for k := range 4 {
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(k)), nil, 0o644); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	tasks.Wait()
	w.agree()
}

type suffix string

func (s suffix) Match(p string, _ bool) bool { return strings.HasSuffix(p, string(s)) }

func TestIgnore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mkdir("old.tmp")
	w.start(Options{Ignore: suffix(".tmp")})
	w.write("old.tmp/file", "1")
	w.mkdir("new.tmp/deep")
	w.write("new.tmp/deep/file", "1")
	w.write("a.tmp", "1")
	must(t, os.Rename(w.path("a.tmp"), w.path("a")))
	w.expect("created a")
	must(t, os.Rename(w.path("a"), w.path("b.tmp")))
	w.expect("removed a")
}

// A thousand renames a second, of files and of folders, while the one that is
// told is slow.
func TestManyRenames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 20 {
		w.mkdir(fmt.Sprintf("d%d/sub", i))
		w.write(fmt.Sprintf("d%d/sub/file", i), "1")
	}
	var busy atomic.Bool
	w.each = func([]Change) error {
		if busy.CompareAndSwap(false, true) {
			defer busy.Store(false)
			return nil
		}
		return errors.New("called twice at a time")
	}
	w.start(Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := range 4000 {
		i := n % 20
		from, to := fmt.Sprintf("d%d", i), fmt.Sprintf("d%d.moved", i)
		if n/20%2 == 1 {
			from, to = to, from
		}
		if n%3 == 0 {
			from, to = from+"/sub/file", from+"/sub/file"+fmt.Sprint(n%7)
			if os.Rename(w.path(from), w.path(to)) == nil {
				must(t, os.Rename(w.path(to), w.path(from)))
			}
		} else {
			_ = os.Rename(w.path(from), w.path(to)) // it may be at the other name
		}
		<-tick.C
	}
	w.agree()
	for i := range 20 {
		for _, p := range []string{"d%d/sub/last", "d%d.moved/sub/last"} {
			p = fmt.Sprintf(p, i)
			if _, err := os.Stat(filepath.Dir(w.path(p))); err == nil {
				w.write(p, "1")
			}
		}
	}
	w.agree()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 48<<20 {
		t.Errorf("4,000 renames took %d bytes", grown)
	}
}

// Whoever is told may take long: more than can be remembered is looked for.
func TestTooManyToRemember(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hold := make(chan struct{})
	var once sync.Once
	w.start(Options{})
	w.mu.Lock() // the first call waits for it
	go func() { <-hold; w.mu.Unlock() }()
	w.write("first", "1")
	for i := range maxDirty + 1000 {
		if err := os.WriteFile(w.path(fmt.Sprintf("f%05d", i)), nil, 0o644); err != nil {
			once.Do(func() { close(hold) })
			t.Fatal(err)
		}
	}
	once.Do(func() { close(hold) })
	w.agree()
}

// faulty lets only so many folders be watched.
type faulty struct {
	notifier
	left *atomic.Int64
}

func (f faulty) Add(p string) error {
	if f.left.Add(-1) < 0 {
		return fmt.Errorf("inotify_add_watch: %w", syscall.ENOSPC)
	}
	return f.notifier.Add(p)
}

func limited(left *atomic.Int64) func(*Watcher) {
	return func(w *Watcher) {
		w.source.open = func() (notifier, <-chan fsnotify.Event, <-chan error, error) {
			n, events, errs, err := openNotifier()
			return faulty{n, left}, events, errs, err
		}
	}
}

// Where not everything can be watched, everything is looked at now and then; it
// is said, and over when there is room again.
func TestLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 10 {
		w.mkdir(fmt.Sprintf("d%d/sub", i))
	}
	var left atomic.Int64
	left.Store(5)
	w.start(Options{Interval: 50 * time.Millisecond}, limited(&left))
	w.expectNotice(ErrLimit)
	for i := range 10 {
		w.write(fmt.Sprintf("d%d/sub/file", i), "1")
		w.mkdir(fmt.Sprintf("d%d/sub/new", i))
	}
	w.agree()
	w.write("d9/sub/file", "22")
	w.await("the change", func() error {
		for _, c := range w.told {
			if c.Kind == Modified && c.Path == "d9/sub/file" {
				return nil
			}
		}
		return errors.New("not told")
	})
	left.Store(1000)
	w.expectNotice(nil)
	w.write("d9/sub/new/file", "1")
	w.agree()
}

func TestLimitSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var left atomic.Int64
	w.start(Options{Interval: 50 * time.Millisecond}, limited(&left))
	w.await("the notice", func() error {
		if len(w.notices) == 0 {
			return errors.New("none")
		}
		return nil
	})
	if hint.Of(w.notices[0]) == "" {
		t.Errorf("no hint in %v", w.notices[0])
	}
	w.write("file", "1")
	w.expect("created file")
}

// overflowing loses what the test says.
func TestOverflow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mkdir("d")
	var lose atomic.Bool
	errs := make(chan error)
	w.start(Options{}, func(watcher *Watcher) {
		watcher.source.open = func() (notifier, <-chan fsnotify.Event, <-chan error, error) {
			n, events, _, err := openNotifier()
			out := make(chan fsnotify.Event)
			go func() {
				defer close(out)
				for e := range events {
					if !lose.Load() {
						out <- e
					}
				}
			}()
			return n, out, errs, err
		}
	})
	t.Cleanup(func() { close(errs) })
	lose.Store(true)
	w.write("d/file", "1")
	w.mkdir("d/sub/sub")
	w.write("d/sub/sub/file", "1")
	errs <- fsnotify.ErrEventOverflow
	w.agree()
	lose.Store(false)
	w.write("d/sub/sub/file2", "1")
	w.agree()
}

// The folder goes and comes again, and the one above it as well.
func TestRootComesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mkdir("a")
	w.write("a/file", "1")
	w.write("b", "1")
	w.settle()
	w.start(Options{})
	aside := w.dir + ".aside"
	must(t, os.Rename(w.dir, aside))
	w.expectNotice(ErrGone)
	if len(w.told) > 0 {
		t.Errorf("told while the folder was gone: %v", w.told)
	}
	must(t, os.Mkdir(w.dir, 0o755))
	w.write("b", "2")
	w.expectNotice(nil)
	w.agree()
	w.mkdir("new/deep")
	w.write("new/deep/file", "1")
	w.agree()
	must(t, os.Rename(w.dir, aside+"2"))
	must(t, os.Rename(aside, w.dir))
	w.agree()
	w.write("a/file2", "1")
	w.agree()
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none := func([]Change) error { return nil }
	if err := New(filepath.Join(dir, "none"), Options{}).Run(t.Context(), none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is missing: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	err := New(filepath.Join(dir, "file"), Options{}).Run(t.Context(), none)
	if want := "watch " + filepath.Join(dir, "file") + ": not a folder"; err == nil || err.Error() != want {
		t.Errorf("a file: %v, want %s", err, want)
	}
}

func TestErrorEndsRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	enough := errors.New("enough")
	w := New(dir, Options{Ready: func() { must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)) }})
	if err := w.Run(t.Context(), func([]Change) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("Run: %v", err)
	}
}
