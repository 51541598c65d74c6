package project_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
)

func TestUnwritableDirectory(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	p := h.open(dir)
	done := make(chan error)
	go func() {
		if os.Geteuid() == 0 {
			// Root may write everywhere: borrow another user's rights, for
			// this thread, which ends with the goroutine.
			runtime.LockOSThread()
			if err := unix.Setfsuid(65534); err != nil {
				done <- err
				return
			}
		}
		_, err := p.Lock(t.Context(), "hostctl up", nil)
		done <- err
	}()
	err := <-done
	if !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("Lock() error = %v, want a permission error", err)
	}
	if want := fmt.Sprintf("lock project %q: mkdir %s: permission denied", dir, p.StateDir()); err.Error() != want {
		t.Errorf("Lock() error = %v, want %s", err, want)
	}
	if want := "hostctl keeps the machines of a project in " + p.StateDir() + ": make it writable for you, or copy the machine file to a directory of your own"; hint.Of(err) != want {
		t.Errorf("hint = %q, want %q", hint.Of(err), want)
	}
}

// A disk that fills up stops commands with a clear error, loses nothing, and
// leaves a project that works again once there is space.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), t.TempDir()
	cmd := exec.Command(os.Args[0], dir, h.options.StateHome, h.options.RuntimeDir)
	cmd.Env = append(os.Environ(), helperEnv+"=fill")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this system lets nobody but root mount a file system of a given size")
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func fill(dir string, o project.Options) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		return err
	}
	p, err := project.Open(dir, o)
	if err != nil {
		return err
	}
	ballast := filepath.Join(dir, "ballast")
	fillUp := func() error {
		f, err := os.Create(ballast)
		if err != nil {
			return err
		}
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		return f.Close()
	}
	// Full from the start.
	if err := fillUp(); err != nil {
		return err
	}
	_, err = p.Lock(context.Background(), "hostctl up", nil)
	if err := wantFull(p, err); err != nil {
		return err
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	unlock, err := p.Lock(context.Background(), "hostctl up", nil)
	if err != nil {
		return err
	}
	update := func(name string) error {
		return p.Update(func(s *project.State) error {
			s.Machines[name] = project.MachineState{}
			return nil
		})
	}
	if err := update("core-01"); err != nil {
		return err
	}
	// Full in the middle.
	if err := fillUp(); err != nil {
		return err
	}
	if err := wantFull(p, update("core-02")); err != nil {
		return err
	}
	_, err = p.Keys()
	if err := wantFull(p, err); err != nil {
		return err
	}
	if s, err := p.Load(); err != nil || len(s.Machines) != 1 {
		return fmt.Errorf("state = %+v, %w", s, err)
	}
	left, err := filepath.Glob(filepath.Join(p.StateDir(), ".*.tmp"))
	if err != nil || len(left) > 0 {
		return fmt.Errorf("left %s, %w", left, err)
	}
	// Destroy needs no space.
	if err := errors.Join(p.Destroy(), unlock()); err != nil {
		return err
	}
	if p.Exists() {
		return errors.New("the state directory is still there")
	}
	return nil
}

func wantFull(p *project.Project, err error) error {
	if !errors.Is(err, syscall.ENOSPC) || !strings.HasSuffix(err.Error(), ": no space left on device") {
		return fmt.Errorf("error = %w, want that there is no space", err)
	}
	if want := "the file system of " + p.StateDir() + " is full: free some space and repeat the command"; hint.Of(err) != want {
		return fmt.Errorf("hint = %q, want %q", hint.Of(err), want)
	}
	return nil
}
