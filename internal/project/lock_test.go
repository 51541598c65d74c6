package project_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/wait"
)

// hold takes the lock, says so, and keeps it until killed.
func hold(dir string, o project.Options) error {
	p, err := project.Open(dir, o)
	if err != nil {
		return err
	}
	if _, err := p.Lock(context.Background(), "hostctl up", nil); err != nil {
		return err
	}
	fmt.Println("locked")
	<-time.After(time.Hour)
	return errors.New("nobody killed the holder")
}

// spawn takes the lock and ends, leaving behind a process that it started
// under the lock, as up leaves QEMU.
func spawn(dir string, o project.Options) error {
	p, err := project.Open(dir, o)
	if err != nil {
		return err
	}
	if _, err := p.Lock(context.Background(), "hostctl up", nil); err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), helperEnv+"=wait")
	cmd.Stdin = os.Stdin
	return cmd.Start()
}

func TestLockBetweenProcesses(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), t.TempDir()
	cmd, out := h.helper("hold", dir)
	if !out.Scan() {
		t.Fatal("the helper said nothing")
	}

	p := h.open(dir)
	var seen []project.Holder
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := p.Lock(ctx, "hostctl halt", func(h project.Holder) { seen = append(seen, h) })
	if !errors.Is(err, wait.ErrTimeout) || !errors.Is(err, project.ErrLocked) {
		t.Fatalf("Lock() error = %v, want a timeout because it is locked", err)
	}
	if len(seen) != 1 || seen[0].PID != cmd.Process.Pid || seen[0].Command != "hostctl up" {
		t.Fatalf("onWait was told %+v, want pid %d once", seen, cmd.Process.Pid)
	}
	want := fmt.Sprintf("in use by hostctl up (pid %d, since %s)", cmd.Process.Pid, seen[0].Since.Local().Format("15:04:05"))
	if !strings.HasSuffix(err.Error(), want) {
		t.Errorf("Lock() error = %q, want it to end with %q", err, want)
	}

	cancelled, interrupt := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	if _, err := p.Lock(cancelled, "hostctl halt", func(project.Holder) { interrupt(interrupted) }); !errors.Is(err, interrupted) {
		t.Errorf("Lock() error = %v, want the cause of the cancellation", err)
	}

	// Reading needs no lock.
	if _, err := p.Load(); err != nil {
		t.Errorf("Load() while locked: %v", err)
	}

	locked := make(chan error)
	go func() {
		unlock, err := p.Lock(t.Context(), "hostctl halt", nil)
		if err == nil {
			err = unlock()
		}
		locked <- err
	}()
	kill(t, cmd)
	if err := <-locked; err != nil {
		t.Errorf("Lock() after the holder was killed: %v", err)
	}
}

func TestStaleHolderIsNotBelieved(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), t.TempDir()
	p, _ := h.locked(dir)
	// What a killed command would have left: a process that no longer exists.
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"dead":    fmt.Sprintf(`{"pid": %d, "command": "hostctl up"}`, cmd.Process.Pid),
		"partial": `{"pid": 12`,
		"odd":     `{"pid": -1}`,
	} {
		if err := os.WriteFile(filepath.Join(p.StateDir(), "lock.holder"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var told []string
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := h.open(dir).Lock(ctx, "hostctl halt", func(h project.Holder) { told = append(told, h.String()) })
		cancel()
		if !errors.Is(err, project.ErrLocked) {
			t.Errorf("%s: Lock() error = %v", name, err)
		}
		if len(told) != 1 || told[0] != "another hostctl command" {
			t.Errorf("%s: onWait was told %q", name, told)
		}
	}
}

func TestLockIsNotInherited(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), t.TempDir()
	stdin, hangUp, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// Ends the process that the helper leaves behind.
	defer func() {
		if err := errors.Join(stdin.Close(), hangUp.Close()); err != nil {
			t.Error(err)
		}
	}()
	cmd := exec.Command(os.Args[0], dir, h.options.StateHome, h.options.RuntimeDir)
	cmd.Env = append(os.Environ(), helperEnv+"=spawn")
	cmd.Stdin = stdin
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	unlock, err := h.open(dir).Lock(ctx, "hostctl halt", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unlock(), unlock()); err != nil {
		t.Errorf("unlock twice: %v", err)
	}
}

// A project that cannot be registered is none: nothing of it is left. One that
// was there before stays as it was.
func TestFailedLockLeavesNothing(t *testing.T) {
	t.Parallel()
	t.Run("index", func(t *testing.T) {
		t.Parallel()
		h, dir := newHome(t), t.TempDir()
		if err := os.WriteFile(h.options.StateHome, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		h.lockFails(dir, "project index: mkdir "+h.options.StateHome+": not a directory")
	})
	t.Run("index of a project that exists", func(t *testing.T) {
		t.Parallel()
		h, dir := newHome(t), t.TempDir()
		_, unlock := h.locked(dir)
		unlock()
		before := tree(t, dir)
		if err := os.RemoveAll(h.options.StateHome); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.options.StateHome, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := h.open(dir).Lock(t.Context(), "hostctl up", nil); err == nil {
			t.Error("locked")
		}
		if after := tree(t, dir); after != before {
			t.Errorf("files %s, before %s", after, before)
		}
	})
}

// lockFails makes sure that a failed Lock changes nothing.
func (h home) lockFails(dir, want string) {
	h.t.Helper()
	_, err := h.open(dir).Lock(h.t.Context(), "hostctl up", nil)
	if err == nil || err.Error() != want {
		h.t.Errorf("Lock() = %v, want %s", err, want)
	}
	for _, d := range []string{dir, h.options.RuntimeDir} {
		if left, err := os.ReadDir(d); err != nil || len(left) > 0 {
			h.t.Errorf("left in %s: %v, %v", d, left, err)
		}
	}
}
