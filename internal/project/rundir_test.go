//go:build !windows

package project_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
)

func TestRunDirOfOthersIsRefused(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(dir string) error{
		"link":  func(dir string) error { return os.Symlink(t.TempDir(), dir) },
		"open":  func(dir string) error { return mkdirMode(dir, 0o755) },
		"file":  func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"owner": func(dir string) error { return mkdirOwned(dir, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "owner" && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			h := newHome(t)
			p := h.make(t.TempDir(), "a")
			run, err := p.RunDir()
			if err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{run, filepath.Dir(run)} {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				if err := plant(dir); err != nil {
					t.Fatal(err)
				}
				_, err := p.RunDir()
				if want := dir + ": not a directory of yours alone"; err == nil || err.Error() != want {
					t.Errorf("RunDir() error = %v, want %s", err, want)
				}
				if got, want := hint.Of(err), "somebody made it, or opened it to others: remove it and repeat the command"; got != want {
					t.Errorf("hint = %q", got)
				}
			}
		})
	}
}

func mkdirMode(dir string, mode os.FileMode) error {
	if err := os.Mkdir(dir, mode); err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}

func mkdirOwned(dir string, uid int) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return os.Chown(dir, uid, -1)
}

func TestRunDirInOpenDirectory(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.make(t.TempDir(), "a")
	if err := os.Chmod(h.options.RuntimeDir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := p.RunDir()
	if want := h.options.RuntimeDir + ": others can rename directories in it"; err == nil || err.Error() != want {
		t.Errorf("RunDir() error = %v, want %s", err, want)
	}
}

// A command in another session, where XDG_RUNTIME_DIR differs or is not set,
// must find the sockets of the first.
func TestRunDirIsTheSameInEverySession(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.make(t.TempDir(), "a")
	want, err := p.RunDir()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(want, h.options.RuntimeDir) {
		t.Errorf("RunDir() = %s, want it below %s", want, h.options.RuntimeDir)
	}
	for _, other := range []string{"", "relative", newHome(t).options.RuntimeDir} {
		h := home{t, project.Options{StateHome: h.options.StateHome, RuntimeDir: other}}
		if _, err := h.visit(p.Dir()); err != nil {
			t.Fatal(err)
		}
		if got, err := h.open(p.Dir()).RunDir(); err != nil || got != want {
			t.Errorf("with XDG_RUNTIME_DIR=%q: %q, %v; want %q", other, got, err, want)
		}
	}

	// The session ended, and its directory with it: the next lock finds
	// another place, whatever its own session offers.
	if err := os.RemoveAll(h.options.RuntimeDir); err != nil {
		t.Fatal(err)
	}
	next := newHome(t)
	next.options.StateHome = h.options.StateHome
	if _, err := next.visit(p.Dir()); err != nil {
		t.Fatal(err)
	}
	if got, err := next.open(p.Dir()).RunDir(); err != nil || !strings.HasPrefix(got, next.options.RuntimeDir) {
		t.Errorf("in the next session: %q, %v; want it below %s", got, err, next.options.RuntimeDir)
	}
}

// A guest outlives the session it was started in; where its socket can, too,
// it does.
func TestRunDirOutlivesTheSession(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.options.StateHome = newHome(t).options.RuntimeDir // short
	p, unlock := h.locked(t.TempDir())
	run, err := p.RunDir()
	if want := filepath.Join(h.options.StateHome, "hostctl", "run", p.ID()); err != nil || run != want {
		t.Errorf("RunDir() = %q, %v; want %s", run, err, want)
	}
	if err := p.Destroy(); err != nil {
		t.Error(err)
	}
	unlock()
	if _, err := os.Stat(filepath.Dir(run)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Destroy left %s: %v", filepath.Dir(run), err)
	}
}

func TestRunDirIsShort(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.options.RuntimeDir = filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	if err := os.Mkdir(h.options.RuntimeDir, 0o700); err != nil {
		t.Fatal(err)
	}
	p, _ := h.locked(t.TempDir())
	run, err := p.RunDir()
	if err != nil || len(run) > 76 || strings.HasPrefix(run, h.options.RuntimeDir) {
		t.Errorf("RunDir() = %q, %v; want another place", run, err)
	}
	if err := p.Destroy(); err != nil {
		t.Error(err)
	}
}
