//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/internal/lifecycle"
)

// movable is a machine whose Docker port moves when it is taken.
const movable = `
machine "core-01" {
  image = "dockerhost"
  forward "docker" {
    guest        = 2375
    host         = %d
    auto_correct = true
  }
}
`

// The steps of up, as it reports them.
var (
	early = []string{"check host", "fetch image", "assign ports", "render config", "create machine", "start machine"}
	late  = []string{"wait for SSH", "wait for Docker"}
)

// TestCrash kills up at its steps, on a host where the wanted port is taken.
// Whatever was killed, destroy leaves nothing, and up converges. QEMU's is run
// by a user without privileges and killed at every step; libvirt's is killed
// where libvirtd has the work.
func TestCrash(t *testing.T) {
	onEach(t, func(t *testing.T, provider string) {
		if provider == "qemu" {
			crash(t, provider, early, append(append([]string{}, early...), late...))
		} else {
			crash(t, provider, early[4:], []string{"create machine", "start machine", "wait for Docker"})
		}
	})
}

func crash(t *testing.T, provider string, destroyed, repeated []string) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port

	s := newSite(t, "crash", on(provider, fmt.Sprintf(movable, port)))
	if provider == "qemu" {
		s.dropPrivileges()
	}

	t.Run("destroy after a kill", func(t *testing.T) {
		for _, step := range destroyed {
			for _, kind := range []lifecycle.EventKind{lifecycle.StepStarted, lifecycle.StepDone} {
				s.upUntil(t, kind, step, syscall.SIGKILL)
				tr := s.traces()
				s.hostctl("destroy", "--yes")
				s.nothingLeft(tr)
			}
		}
	})

	t.Run("up after kills", func(t *testing.T) {
		for _, step := range repeated {
			for _, kind := range []lifecycle.EventKind{lifecycle.StepStarted, lifecycle.StepDone} {
				if kind == lifecycle.StepDone && step == late[len(late)-1] {
					continue // nothing is left to kill
				}
				s.upUntil(t, kind, step, syscall.SIGKILL)
				if tr := s.traces(); len(tr.ids) > 0 && len(processes(t, tr.ids[0])) > 1 {
					t.Fatalf("two QEMU processes for one machine after a kill at %s of %q", kind, step)
				}
			}
		}
	})
	t.Run("interrupt", func(t *testing.T) {
		code := s.upUntil(t, lifecycle.StepStarted, late[0], syscall.SIGINT)
		if code != 130 {
			t.Errorf("exit %d, want 130", code)
		}
	})
	t.Run("two at once", func(t *testing.T) {
		results := make(chan result, 2)
		for range 2 {
			go func() { results <- s.try(t.Context(), "up") }()
		}
		for range 2 {
			if r := <-results; r.code != 0 {
				t.Errorf("up: exit %d\n%s", r.code, r.stderr)
			}
		}
		if pids := processes(t, s.traces().ids[0]); len(pids) != 1 {
			t.Errorf("QEMU processes %v, want one", pids)
		}
	})

	m := s.status()[0]
	moved := strings.TrimPrefix(m.DockerHost, "tcp://")
	if m.State != "running" || moved == fmt.Sprintf("127.0.0.1:%d", port) {
		t.Errorf("status %+v; port %d is taken", m, port)
	}
	if got := strings.TrimSpace(s.hostctl("port", "core-01", "docker")); got != moved {
		t.Errorf("port says %s, status %s", got, moved)
	}
	contains(t, "env", s.hostctl("env", "--shell", "bash"), "DOCKER_HOST='tcp://"+moved+"'")
	if got := s.shell(`docker info --format '{{.Name}}'`); got != "core-01" {
		t.Errorf("docker info: %q", got)
	}

	t.Run("env does not wait for a frozen guest", func(t *testing.T) {
		pid := processes(t, s.traces().ids[0])[0]
		check(t, kill(pid, syscall.SIGSTOP))
		r := s.try(t.Context(), "env")
		check(t, kill(pid, syscall.SIGCONT))
		if r.code != 1 || r.stdout != "" {
			t.Errorf("exit %d, stdout %q; want 1 and nothing", r.code, r.stdout)
		}
		contains(t, "stderr", r.stderr, "no answer within 2s")
	})

	t.Run("a killed QEMU is stopped, and starts again", func(t *testing.T) {
		tr := s.traces()
		for _, pid := range processes(t, tr.ids[0]) {
			check(t, kill(pid, syscall.SIGKILL))
		}
		// The kernel takes a moment to end a process of a gigabyte.
		r := s.exec(t.Context(), "", "bash", "-c", `until hostctl status -o json | grep -q '"state": "stopped"'; do sleep 0.1; done`)
		if r.code != 0 {
			t.Fatal(r.stderr)
		}
		if r := s.try(t.Context(), "env"); r.code != 1 || r.stdout != "" {
			t.Errorf("env of a dead machine: exit %d, stdout %q", r.code, r.stdout)
		}
		s.upUntil(t, lifecycle.StepDone, "start machine", syscall.SIGKILL)
		if got := s.status()[0].State; got != "running" {
			t.Errorf("state %s after starting again", got)
		}
	})

	tr := s.traces()
	s.hostctl("destroy", "--yes")
	s.nothingLeft(tr)
}

// upUntil runs up, sends it a signal when it reports the event, and returns
// its exit code. An up that ends before is a failure.
func (s *site) upUntil(t *testing.T, kind lifecycle.EventKind, step string, sig syscall.Signal) int {
	t.Helper()
	return s.upWith(t, hooks{{kind, step}: func(up *os.Process) { check(t, up.Signal(sig)) }}).code
}

// moment is an event of up's.
type moment struct {
	kind lifecycle.EventKind
	step string
}

// hooks are what happens when up first reports an event.
type hooks map[moment]func(up *os.Process)

// upWith runs up with hooks and returns how it ended. An up that ends before
// all were called is a failure.
func (s *site) upWith(t *testing.T, hooks hooks) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := s.command(ctx, hostctl, "up", "-o", "json")
	out, err := cmd.StdoutPipe()
	check(t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	check(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var ev lifecycle.Event
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			t.Errorf("%q is no event: %v", lines.Text(), err)
		}
		for at, hook := range hooks {
			if ev.Kind == at.kind && ev.Step == at.step {
				hook(cmd.Process)
				delete(hooks, at)
			}
		}
	}
	_ = cmd.Wait() // the exit code says it
	for at := range hooks {
		t.Fatalf("up ended without %s of %q: exit %d\n%s", at.kind, at.step, cmd.ProcessState.ExitCode(), stderr.String())
	}
	return result{stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// dropPrivileges lets hostctl run as nobody when the tests run as root. The
// shared image cache is root's: nobody gets one of links to its files.
func (s *site) dropPrivileges() {
	t := s.t
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	shared, err := os.UserCacheDir()
	check(t, err)
	cache := tempDir(t, "hostctl-e2e-cache")
	images := filepath.Join(shared, "hostctl", "images", "dockerhost")
	check(t, filepath.WalkDir(images, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(shared, path)
		if err != nil {
			return err
		}
		target := filepath.Join(cache, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		return share(path, target)
	}))
	s.env = append(s.env, "XDG_CACHE_HOME="+cache) // the last one counts

	const nobody = 65534
	s.user = &syscall.Credential{Uid: nobody, Gid: nobody}
	for _, dir := range []string{filepath.Dir(s.dir), s.run, cache} {
		check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err // files stay root's: the image is only read
			}
			return os.Chown(path, nobody, nobody)
		}))
	}
}

// share makes to a file like from, without its 400 MB where possible.
func share(from, to string) error {
	if err := os.Link(from, to); err == nil || !errors.Is(err, syscall.EXDEV) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
