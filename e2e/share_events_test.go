//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
)

// told is what a watcher in a container has printed so far.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (w *told) count(line string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, l := range w.lines {
		if l == line {
			n++
		}
	}
	return n
}

func (w *told) any(prefix string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.lines, func(l string) bool { return strings.HasPrefix(l, prefix) })
}

// watchShare runs a watcher in a container that has the shared folder, until
// the test ends.
func watchShare(t *testing.T, s *site, folder string) *told {
	t.Helper()
	build := exec.Command("go", "build", "-o", filepath.Join(folder, "app", "watcher"), "./testdata/watcher")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := s.command(ctx, "bash", "-c", `eval "$(hostctl env)"; exec docker run --rm --name watcher -v /home/core/share:/w local/busybox /w/app/watcher /w`)
	out, err := cmd.StdoutPipe()
	check(t, err)
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	w := &told{}
	var reads sync.WaitGroup
	reads.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			w.mu.Lock()
			w.lines = append(w.lines, lines.Text())
			w.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		s.exec(context.Background(), "", "bash", "-c", `eval "$(hostctl env)"; docker rm --force watcher`)
		cancel()
		reads.Wait()
		_ = cmd.Wait() // was killed
	})
	w.await(t, "watching /w")
	return w
}

// await waits for a line, and returns how long.
func (w *told) await(t *testing.T, line string) time.Duration {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	err := wait.Until(ctx, time.Millisecond, func(context.Context) error {
		if w.count(line) == 0 {
			return fmt.Errorf("%q is not among %q", line, w.lines)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// fileChanges has a watcher in a container see what is done on the host, and
// nothing twice that is done in the guest.
func fileChanges(t *testing.T, s *site, folder string) {
	s = s.in(t)
	w := watchShare(t, s, folder)
	// Until the agent's shell is there nobody is told.
	probes := 0
	s.eventually("the first change", func() error {
		probes++
		name := fmt.Sprintf("probe-%d", probes)
		check(t, os.WriteFile(filepath.Join(folder, name), nil, 0o644))
		if !w.any("create /w/probe-") {
			return fmt.Errorf("none of %d", probes)
		}
		return nil
	})
	file := func(name string) string { return filepath.Join(folder, name) }
	for _, step := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"create", func() error { return os.WriteFile(file("new"), []byte("1\n"), 0o644) }, []string{"create /w/new", "modify /w/new", "close /w/new"}},
		{"modify", func() error { return os.WriteFile(file("from-host"), []byte("changed on the host\n"), 0o644) }, []string{"modify /w/from-host", "close /w/from-host"}},
		{"make a folder", func() error { return os.Mkdir(file("folder"), 0o755) }, []string{"create /w/folder"}},
		{"create in it", func() error { return os.WriteFile(file("folder/$(a 'name')"), nil, 0o644) }, []string{"create /w/folder/$(a 'name')"}},
		{"rename", func() error { return os.Rename(file("new"), file("folder/renamed")) }, []string{"delete /w/new", "create /w/folder/renamed"}},
		{"chmod", func() error { return os.Chmod(file("from-host"), 0o600) }, []string{"attributes /w/from-host"}},
		{"create an empty file", func() error { return os.WriteFile(file("saved"), nil, 0o644) }, []string{"create /w/saved"}},
		{"save as editors do", func() error { return save(file("saved")) }, []string{"modify /w/saved", "close /w/saved"}},
		{"remove", func() error { return os.Remove(file("folder/renamed")) }, []string{"delete /w/folder/renamed"}},
		{"remove all", func() error { return os.RemoveAll(file("folder")) }, []string{"delete /w/folder"}},
	} {
		check(t, step.do())
		delays := ""
		start := time.Now()
		for _, line := range step.want {
			w.await(t, line)
			delays += fmt.Sprintf(" %s after %d ms,", line, time.Since(start).Milliseconds())
		}
		t.Logf("%s on the host:%s", step.what, delays[:len(delays)-1])
	}
	if n := w.count("delete /w/saved"); n > 0 {
		t.Errorf("told %d times that a file is gone that is not", n)
	}
	neverGone(t, s, file("saved"), "share/saved")
	if data, err := os.ReadFile(file("from-host")); err != nil || string(data) != "changed on the host\n" {
		t.Errorf("a file that was changed: %q, %v", data, err)
	}

	s.hostctl("ssh", "-c", "echo 1 >share/own && mkdir share/own.d && mv share/own share/own.d/moved")
	check(t, os.WriteFile(file("afterwards"), nil, 0o644))
	w.await(t, "create /w/afterwards")
	for _, line := range []string{"create /w/own", "create /w/own.d", "delete /w/own", "create /w/own.d/moved"} {
		if n := w.count(line); n != 1 {
			t.Errorf("%d times %q, which was done in the guest", n, line)
		}
	}
	if info, err := os.Lstat(file("own.d/moved")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("what the guest made: %v, %v", info, err)
	}
	check(t, os.WriteFile(file("from-host"), []byte("made on the host\n"), 0o644))
	check(t, os.Chmod(file("from-host"), 0o644))
	check(t, os.RemoveAll(file("own.d")))
	check(t, os.Remove(file("afterwards")))
	check(t, os.Remove(file("saved")))
	check(t, os.Remove(file("app/watcher")))
	for i := range probes {
		check(t, os.Remove(file(fmt.Sprintf("probe-%d", i+1))))
	}
}

// save puts another file in a file's place.
func save(file string) error {
	if err := os.WriteFile(file+".new", []byte("saved\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// neverGone has the guest open a file all the time while it is saved again and
// again on the host.
func neverGone(t *testing.T, s *site, onHost, inGuest string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var out strings.Builder
	reader := s.command(ctx, hostctl, "ssh", "-c", fmt.Sprintf("for i in $(seq 2000); do read line <%s; done; true", inGuest))
	reader.Stdout, reader.Stderr = &out, &out
	check(t, reader.Start())
	ended := make(chan error, 1)
	go func() { ended <- reader.Wait() }()
	for saves := 1; ; saves++ {
		check(t, save(onHost))
		select {
		case err := <-ended:
			// What is open when it is replaced may be stale when it is read.
			if err != nil || strings.Contains(out.String(), "No such file") {
				t.Errorf("during %d saves the guest could not open the file: %v\n%s", saves, err, out.String())
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}
