package project_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
)

// make makes a project with one machine in a new directory below parent.
func (h home) make(parent, name string) *project.Project {
	h.t.Helper()
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	p, unlock := h.locked(dir)
	defer unlock()
	if err := p.Update(func(s *project.State) error {
		s.Machines["core-01"] = project.MachineState{Provider: "qemu"}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// visit takes the lock of the project in dir for a moment.
func (h home) visit(dir string) (id string, err error) {
	h.t.Helper()
	p := h.open(dir)
	unlock, err := p.Lock(h.t.Context(), "hostctl up", nil)
	if err != nil {
		return "", err
	}
	return p.ID(), unlock()
}

// indexed returns where the index has the project, and what is wrong there.
func (h home) indexed(id string) (dir, stale string) {
	h.t.Helper()
	entries, err := h.index().List()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		if e.ID == id {
			return e.Dir, e.Stale
		}
	}
	return "", ""
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func wantCopy(t *testing.T, err error, dir, original string) {
	t.Helper()
	var copied *project.CopyError
	if !errors.As(err, &copied) || copied.Dir != dir || copied.Original != original {
		t.Errorf("error = %v, want that %s is a copy of %s", err, dir, original)
	}
}

func TestMovedProjectKeepsItsMachines(t *testing.T) {
	t.Parallel()
	h, parent := newHome(t), realTempDir(t)
	p := h.make(parent, "a")
	run, err := p.RunDir()
	if err != nil {
		t.Fatal(err)
	}
	a, b := filepath.Join(parent, "a"), filepath.Join(parent, "b")
	rename(t, a, b)
	if dir, stale := h.indexed(p.ID()); dir != a || stale != "the directory is gone" {
		t.Errorf("index before: %q, %q", dir, stale)
	}

	moved := h.open(b)
	s, err := moved.Load()
	if err != nil || len(s.Machines) != 1 {
		t.Errorf("Load() in the new place = %+v, %v", s, err)
	}
	if got, err := moved.RunDir(); err != nil || got != run {
		t.Errorf("RunDir() in the new place = %q, %v; want %q", got, err, run)
	}
	if id, err := h.visit(b); err != nil || id != p.ID() {
		t.Errorf("Lock in the new place: id %q, %v; want %q", id, err, p.ID())
	}
	if dir, stale := h.indexed(p.ID()); dir != b || stale != "" {
		t.Errorf("index after: %q, %q", dir, stale)
	}
}

// Folders of shares move with the project that they are in, once, and guests find
// what the agent serves under the names that they know.
func TestMovedProjectTakesItsShares(t *testing.T) {
	t.Parallel()
	h, parent := newHome(t), realTempDir(t)
	p := h.make(parent, "a")
	a, b := filepath.Join(parent, "a"), filepath.Join(parent, "b")
	shares := []project.ShareSpec{
		{Name: "all", Type: "nfs", Server: "embedded", Host: a},
		{Name: "code", Type: "nfs", Server: "embedded", Host: filepath.Join(a, "src", "code")},
		{Name: "copy", Type: "sftp", Host: filepath.Join(a, "src")},
		{Name: "sys", Type: "nfs", Server: "system", Host: filepath.Join(a, "src")},
		{Name: "beside", Type: "nfs", Server: "embedded", Host: filepath.Join(parent, "ab")},
	}
	unlock, err := p.Lock(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Update(func(s *project.State) error {
		for name, ms := range s.Machines {
			ms.Spec.Shares, ms.Mounted = shares, shares
			s.Machines[name] = ms
		}
		return nil
	})
	if err := errors.Join(err, unlock()); err != nil {
		t.Fatal(err)
	}
	hosts := func(dir string) []string {
		t.Helper()
		s, err := h.open(dir).Load()
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, ms := range s.Machines {
			for i, share := range ms.Spec.Shares {
				out = append(out, share.Host)
				if share.Embedded() && share.Export(500) != shares[i].Export(500) {
					t.Errorf("share %q is called %s in %s, before %s", share.Name, share.Export(500), dir, shares[i].Export(500))
				}
			}
			if !reflect.DeepEqual(ms.Mounted, ms.Spec.Shares) {
				t.Errorf("mounted %+v", ms.Mounted)
			}
		}
		return out
	}
	from := a
	for _, to := range []string{b, filepath.Join(parent, "c"), a} {
		rename(t, from, to)
		want := []string{to, filepath.Join(to, "src", "code"), filepath.Join(to, "src"), filepath.Join(a, "src"), filepath.Join(parent, "ab")}
		for range 2 { // before the lock's holder wrote it down, and after
			if got := hosts(to); !slices.Equal(got, want) {
				t.Errorf("in %s: %q", to, got)
			}
			if _, err := h.visit(to); err != nil {
				t.Fatal(err)
			}
		}
		from = to
	}
	if data, err := os.ReadFile(filepath.Join(a, ".hostctl", "state.json")); err != nil || strings.Contains(string(data), `"was"`) {
		t.Errorf("back again: %v\n%s", err, data)
	}
}

func TestCopiedProjectIsRefused(t *testing.T) {
	t.Parallel()
	h, parent := newHome(t), realTempDir(t)
	p := h.make(parent, "a")
	a, b := filepath.Join(parent, "a"), filepath.Join(parent, "b")
	copyTree(t, a, b)

	_, err := h.open(b).Load()
	wantCopy(t, err, b, a)
	if want := `"` + b + `" is a copy of the project in "` + a + `", and its machines belong there`; runtime.GOOS != "windows" && err.Error() != want {
		t.Errorf("error = %s, want %s", err, want)
	}
	if want := `delete "` + filepath.Join(b, ".hostctl") + `" to give the copy machines of its own (the disks that were copied go with it)`; runtime.GOOS != "windows" && hint.Of(err) != want {
		t.Errorf("hint = %s, want %s", hint.Of(err), want)
	}
	_, err = h.open(b).RunDir()
	wantCopy(t, err, b, a)
	_, err = h.visit(b)
	wantCopy(t, err, b, a)

	if _, err := h.visit(a); err != nil {
		t.Errorf("the original: %v", err)
	}
	if dir, stale := h.indexed(p.ID()); dir != a || stale != "" {
		t.Errorf("index: %q, %q", dir, stale)
	}

	// The hint works.
	if err := os.RemoveAll(filepath.Join(b, ".hostctl")); err != nil {
		t.Fatal(err)
	}
	if id, err := h.visit(b); err != nil || id == p.ID() {
		t.Errorf("fresh project: id %q, %v; want another than %q", id, err, p.ID())
	}
}

// The copy was made after a move, so that both note the path of neither.
func TestCopyOfAMovedProject(t *testing.T) {
	t.Parallel()
	h, parent := newHome(t), realTempDir(t)
	p := h.make(parent, "a")
	a, b, c := filepath.Join(parent, "a"), filepath.Join(parent, "b"), filepath.Join(parent, "c")
	rename(t, a, b)
	copyTree(t, b, c)
	if _, err := h.visit(b); err != nil { // the first to come has it
		t.Fatal(err)
	}
	_, err := h.visit(c)
	wantCopy(t, err, c, b)
	if dir, stale := h.indexed(p.ID()); dir != b || stale != "" {
		t.Errorf("index: %q, %q", dir, stale)
	}
}

// The original was away, on a disk that was not mounted, when the copy came
// into use.
func TestOriginalComesBack(t *testing.T) {
	t.Parallel()
	h, parent := newHome(t), realTempDir(t)
	h.make(parent, "a")
	a, b, away := filepath.Join(parent, "a"), filepath.Join(parent, "b"), filepath.Join(parent, "away")
	copyTree(t, a, b)
	rename(t, a, away)
	if _, err := h.visit(b); err != nil {
		t.Fatal(err)
	}
	rename(t, away, a)
	_, err := h.visit(a)
	wantCopy(t, err, a, b)
	if _, err := h.visit(b); err != nil {
		t.Errorf("the one that took over: %v", err)
	}
}

// One directory that is reached by two paths is no copy.
func TestTwoPathsOfOneProject(t *testing.T) {
	t.Parallel()
	h, parent := newHome(t), realTempDir(t)
	p := h.make(parent, "a")
	link := filepath.Join(parent, "link")
	if err := os.Symlink(filepath.Join(parent, "a"), link); err != nil {
		t.Fatal(err)
	}
	if id, err := h.visit(link); err != nil || id != p.ID() {
		t.Errorf("through the link: %q, %v", id, err)
	}
	// What a bind mount looks like: another path with the very same state. A
	// link can be read through only.
	b := filepath.Join(parent, "b")
	if err := os.Mkdir(b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(p.StateDir(), filepath.Join(b, ".hostctl")); err != nil {
		t.Fatal(err)
	}
	other := h.open(b)
	if _, err := other.Load(); err != nil || other.ID() != p.ID() {
		t.Errorf("through the other path: %q, %v", other.ID(), err)
	}
	if dir, stale := h.indexed(p.ID()); dir != p.Dir() || stale != "" {
		t.Errorf("index: %q, %q", dir, stale)
	}
}

func realTempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
