package project_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/project"
)

// helper processes are this test binary with HELPER set; see TestMain.
const helperEnv = "HOSTCTL_PROJECT_TEST_HELPER"

func TestMain(m *testing.M) {
	if name := os.Getenv(helperEnv); name != "" {
		if err := helpers[name](os.Args[1], project.Options{StateHome: os.Args[2], RuntimeDir: os.Args[3]}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var helpers = map[string]func(dir string, o project.Options) error{
	"count": count,
	"hold":  hold,
	"spawn": spawn,
	"fill":  fill,
	"churn": churn,
	"wait":  func(string, project.Options) error { _, err := io.Copy(io.Discard, os.Stdin); return err },
}

// home is the directories of one user.
type home struct {
	t       *testing.T
	options project.Options
}

func newHome(t *testing.T) home {
	t.Helper()
	// Short, unlike t.TempDir: run directories lie in it.
	runtimeDir, err := os.MkdirTemp("", "hc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(runtimeDir); err != nil {
			t.Error(err)
		}
	})
	// Too long for sockets, or they would all lie there.
	stateHome := filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	return home{t, project.Options{StateHome: stateHome, RuntimeDir: runtimeDir}}
}

func (h home) open(dir string) *project.Project {
	h.t.Helper()
	p, err := project.Open(dir, h.options)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// locked returns a project under the lock until the test ends or calls unlock.
func (h home) locked(dir string) (*project.Project, func()) {
	h.t.Helper()
	p := h.open(dir)
	unlock, err := p.Lock(h.t.Context(), "hostctl up", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	done := func() {
		if err := unlock(); err != nil {
			h.t.Error(err)
		}
	}
	h.t.Cleanup(done)
	return p, done
}

func (h home) index() *project.Index { return project.NewIndex(h.options.StateHome) }

// helper starts a helper process and returns its output, line by line.
func (h home) helper(name, dir string) (*exec.Cmd, *bufio.Scanner) {
	h.t.Helper()
	cmd := exec.Command(os.Args[0], dir, h.options.StateHome, h.options.RuntimeDir)
	cmd.Env = append(os.Environ(), helperEnv+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
}

// tree lists everything below dir.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(dir, path)
		names = append(names, filepath.ToSlash(rel))
		return errors.Join(err, relErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names[1:], " ")
}

func TestOpenAndLoadCreateNothing(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), t.TempDir()
	p := h.open(dir)
	s, err := p.Load()
	if err != nil || len(s.Machines) != 0 || s.Machines == nil {
		t.Errorf("Load() = %+v, %v; want an empty state", s, err)
	}
	if _, err := p.RunDir(); !errors.Is(err, project.ErrNoState) {
		t.Errorf("RunDir() error = %v, want ErrNoState", err)
	}
	if _, err := p.Keys(); !errors.Is(err, project.ErrNoState) {
		t.Errorf("Keys() error = %v, want ErrNoState", err)
	}
	if p.Exists() {
		t.Error("Exists() = true")
	}
	if got := tree(t, dir) + tree(t, h.options.RuntimeDir); got != "" {
		t.Errorf("made %s", got)
	}
	if _, err := os.Stat(h.options.StateHome); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("made %s", h.options.StateHome)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := project.Open(filepath.Join(dir, "none"), project.Options{StateHome: dir}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	if _, err := project.Open(file, project.Options{StateHome: dir}); err == nil || !strings.HasSuffix(err.Error(), "not a directory") {
		t.Errorf("file: %v", err)
	}
	if _, err := project.Open(dir, project.Options{}); err == nil || err.Error() != `state home "" is not an absolute path` {
		t.Errorf("no state home: %v", err)
	}
}

func TestLockMakesAProject(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), t.TempDir()
	p, unlock := h.locked(dir)
	if got, want := tree(t, p.StateDir()), ".gitignore lock lock.holder state.json"; got != want {
		t.Errorf("made %q, want %q", got, want)
	}
	id := p.ID()
	unlock()
	if got, want := tree(t, p.StateDir()), ".gitignore lock state.json"; got != want {
		t.Errorf("left %q, want %q", got, want)
	}
	if got, err := os.ReadFile(filepath.Join(p.StateDir(), ".gitignore")); err != nil || string(got) != "*\n" {
		t.Errorf(".gitignore = %q, %v", got, err)
	}
	again := h.open(dir)
	if _, err := again.Load(); err != nil {
		t.Fatal(err)
	}
	if again.ID() != id || len(id) != 12 {
		t.Errorf("ID() = %q, want %q", again.ID(), id)
	}
	if err := p.Update(func(*project.State) error { return nil }); !errors.Is(err, project.ErrNotLocked) {
		t.Errorf("Update after unlock: %v", err)
	}
}

func TestPathsOfAllKinds(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("tiefer Ordner/", 16)
	for _, name := range []string{"with spaces", "Überraschung 机器 %h", "-dash", "[glob]*?", deep} {
		if runtime.GOOS == "windows" && strings.ContainsAny(name, "*?") {
			continue
		}
		t.Run(name[:5], func(t *testing.T) {
			t.Parallel()
			h, dir := newHome(t), filepath.Join(t.TempDir(), name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			p, _ := h.locked(dir)
			if err := p.MakeMachineDir("core-01"); err != nil {
				t.Fatal(err)
			}
			if err := p.Update(func(s *project.State) error {
				s.Machines["core-01"] = project.MachineState{Provider: "qemu"}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			run, err := p.RunDir()
			if err != nil || len(run) > 76 {
				t.Errorf("RunDir() = %q, %v; want at most 76 bytes", run, err)
			}
			if err := p.Destroy(); err != nil {
				t.Error(err)
			}
			if got := tree(t, dir) + tree(t, h.options.RuntimeDir) + tree(t, h.options.StateHome); got != "" {
				t.Errorf("Destroy left %s", got)
			}
		})
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has ACLs, not modes")
	}
	h, dir := newHome(t), t.TempDir()
	// A state directory that was unpacked from an archive, say.
	if err := os.Mkdir(filepath.Join(dir, ".hostctl"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, ".hostctl"), 0o777); err != nil {
		t.Fatal(err)
	}
	p, _ := h.locked(dir)
	if err := p.MakeMachineDir("core-01"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Keys(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.HostKey("core-01"); err != nil {
		t.Fatal(err)
	}
	run, err := p.RunDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, top := range []string{p.StateDir(), run, filepath.Join(h.options.StateHome, "hostctl")} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestMachineNamesStayInside(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p, _ := h.locked(t.TempDir())
	for _, name := range []string{"", ".", "..", "../x", "a/b", "Core", "a.b", "-a", strings.Repeat("a", 64)} {
		want := fmt.Sprintf("machine name %q is not a DNS label", name)
		if err := p.MakeMachineDir(name); err == nil || err.Error() != want {
			t.Errorf("MakeMachineDir(%q) = %v, want %s", name, err, want)
		}
		if err := p.RemoveMachine(name); err == nil || err.Error() != want {
			t.Errorf("RemoveMachine(%q) = %v, want %s", name, err, want)
		}
		err := p.Update(func(s *project.State) error {
			s.Machines[name] = project.MachineState{}
			return nil
		})
		if err == nil || err.Error() != "write state: "+want {
			t.Errorf("Update with %q = %v, want %s", name, err, want)
		}
	}
}

func TestRemoveMachine(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p, _ := h.locked(t.TempDir())
	for _, name := range []string{"core-01", "core-02"} {
		if err := p.MakeMachineDir(name); err != nil {
			t.Fatal(err)
		}
		if err := p.Update(func(s *project.State) error {
			s.Machines[name] = project.MachineState{Provider: "qemu"}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := p.RemoveMachine("core-01"); err != nil {
			t.Fatal(err)
		}
	}
	s, err := p.Load()
	if err != nil || len(s.Machines) != 1 || s.Machines["core-02"].Provider != "qemu" {
		t.Errorf("Load() = %+v, %v", s, err)
	}
	if got := tree(t, p.MachinesDir()); got != "core-02" {
		t.Errorf("machine directories: %s", got)
	}
}

// Several commands make and destroy one project over and over. Each must find
// itself alone, whatever the others removed under it.
func TestDestroyWhileOthersWait(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), t.TempDir()
	marker := filepath.Join(dir, "inside")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error)
	const commands, rounds = 6, 30
	for range commands {
		p := h.open(dir)
		go func() {
			done <- func() error {
				for range rounds {
					unlock, err := p.Lock(ctx, "hostctl destroy", nil)
					if err != nil {
						return err
					}
					f, err := os.OpenFile(marker, os.O_CREATE|os.O_EXCL, 0o600)
					if err != nil {
						return fmt.Errorf("not alone: %w", err)
					}
					err = errors.Join(f.Close(), p.Update(func(s *project.State) error {
						s.Machines["core-01"] = project.MachineState{}
						return nil
					}), p.Destroy(), os.Remove(marker), unlock())
					if err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range commands {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := tree(t, dir) + tree(t, h.options.RuntimeDir); got != "" {
		t.Errorf("left %s", got)
	}
	if entries, err := h.index().List(); err != nil || len(entries) != 0 {
		t.Errorf("index: %v, %v", entries, err)
	}
}

// churn makes and destroys a project, over and over.
func churn(dir string, o project.Options) error {
	p, err := project.Open(dir, o)
	if err != nil {
		return err
	}
	for {
		unlock, err := p.Lock(context.Background(), "hostctl up", nil)
		if err != nil {
			return err
		}
		err = p.MakeMachineDir("core-01")
		if err == nil {
			_, err = p.Keys()
		}
		if err == nil {
			_, err = p.HostKey("core-01")
		}
		if err == nil {
			err = p.Update(func(s *project.State) error {
				s.Machines["core-01"] = project.MachineState{}
				return nil
			})
		}
		if err := errors.Join(err, p.Destroy(), unlock()); err != nil {
			return err
		}
		fmt.Println("once")
	}
}

// A project that was being made or destroyed when the command was killed is
// destroyed by the next one to the last file, wherever that file is.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), t.TempDir()
	for range 25 {
		cmd, out := h.helper("churn", dir)
		if !out.Scan() {
			t.Fatal("the helper ended")
		}
		delay := time.NewTimer(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		<-delay.C
		kill(t, cmd)
		p := h.open(dir)
		if p.Exists() {
			unlock, err := p.Lock(t.Context(), "hostctl destroy", nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(p.Destroy(), unlock()); err != nil {
				t.Fatal(err)
			}
		}
		got := tree(t, dir) + tree(t, h.options.RuntimeDir)
		// One that was killed early can leave the empty folder.
		projects := filepath.Join(h.options.StateHome, "hostctl", "projects")
		if _, err := os.Stat(projects); err == nil {
			got += tree(t, projects)
		}
		if got != "" {
			t.Fatalf("left %s", got)
		}
	}
}
