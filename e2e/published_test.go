//go:build e2e

package e2e

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
)

// TestPublished is about ports that containers publish: they are on the host
// for as long as the container runs, whatever happens in between.
func TestPublished(t *testing.T) { onEach(t, published) }

func published(t *testing.T, provider string) {
	s := newSite(t, "project", on(provider, example(t, "single")))
	if provider == "qemu" {
		s.withMirror(on(provider, example(t, "single")))
	}
	s.hostctl("up")
	if provider == "qemu" {
		t.Run("mirrored share", func(t *testing.T) { mirroredShare(t, s) })
	}
	rootfs := filepath.Join(t.TempDir(), "server.tar")
	writeServer(t, rootfs)
	s.shell(fmt.Sprintf(`docker import --change 'ENTRYPOINT ["/server"]' --change 'EXPOSE 80/tcp 53/udp' %q local/server >&2`, rootfs))

	local, open, both := freeHostPort(t), freeHostPort(t), freeHostPort(t)
	t.Run("bound to the guest's loopback", func(t *testing.T) {
		s.shell(fmt.Sprintf(`docker run -d --name local --restart always -p 127.0.0.1:%d:80 -p 127.0.0.1:%[1]d:53/udp local/server local >&2`, local))
		s.says(local, "local")
		s.echoes(local)
		// Nobody else gets there: not even the guest at its own address.
		if r := s.try(t.Context(), "ssh", "-c", fmt.Sprintf(`curl -sm 3 "http://$(echo $SSH_CONNECTION | cut -d' ' -f3):%d/" || true`, local)); r.stdout != "" {
			t.Errorf("the guest's address answers %q", r.stdout)
		}
	})
	t.Run("bound to all addresses", func(t *testing.T) {
		s.shell(fmt.Sprintf(`docker run -d --name open --restart always -p %d:80 -p %[1]d:53/udp local/server open >&2`, open))
		s.says(open, "open")
		s.echoes(open)
	})
	t.Run("ports that Docker chooses", func(t *testing.T) {
		s.shell(`docker run -d --name chosen -P local/server chosen >&2`)
		_, port, _ := strings.Cut(s.shell(`docker port chosen 80/tcp | head -n 1`), ":")
		n, err := strconv.Atoi(port)
		check(t, err)
		s.says(n, "chosen")
		_, port, _ = strings.Cut(s.shell(`docker port chosen 53/udp | head -n 1`), ":")
		n, err = strconv.Atoi(port)
		check(t, err)
		s.echoes(n)
	})
	t.Run("a taken port", func(t *testing.T) {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", both))
		check(t, err)
		defer l.Close()
		s.shell(fmt.Sprintf(`docker run -d --name both -p %d:80 local/server both >&2`, both))
		var host int
		s.eventually("the port has moved on", func() error {
			p, ok := s.published()["both:80/tcp"]
			if !ok || p.Error != "" || p.HostPort == both {
				return fmt.Errorf("published %+v", p)
			}
			host = p.HostPort
			return nil
		})
		s.says(host, "both")
		contains(t, "hostctl port", s.hostctl("port"), "both:80/tcp", fmt.Sprintf("127.0.0.1:%d", host), "local:53/udp")
		if got := strings.TrimSpace(s.hostctl("port", "both:80/tcp")); got != fmt.Sprintf("127.0.0.1:%d", host) {
			t.Errorf("hostctl port both:80/tcp printed %q", got)
		}
		contains(t, "hostctl status", s.hostctl("status"), "both:80/tcp")
	})
	t.Run("a container that stops", func(t *testing.T) {
		s.shell(`docker rm -f both chosen >&2`)
		s.eventually("the ports are gone", func() error {
			for name := range s.published() {
				if strings.HasPrefix(name, "both") || strings.HasPrefix(name, "chosen") {
					return errors.New(name)
				}
			}
			return nil
		})
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", both))
		check(t, err)
		check(t, l.Close())
	})

	right := func(t *testing.T, since time.Time) {
		s.says(open, "open")
		s.echoes(open)
		t.Logf("open ports: right again %s after Docker answered", time.Since(since).Round(10*time.Millisecond))
		s.says(local, "local")
		s.echoes(local)
		t.Logf("right again %s after Docker answered", time.Since(since).Round(10*time.Millisecond))
	}
	t.Run("Docker restarts", func(t *testing.T) {
		s.hostctl("ssh", "-c", "sudo systemctl restart docker")
		right(t, s.dockerAnswers())
	})
	t.Run("the agent is killed", func(t *testing.T) {
		s.killAgent()
		contains(t, "status", s.try(t.Context(), "status").stderr, "the project's agent does not run", "hostctl up starts it")
		s.hostctl("env")
		right(t, s.dockerAnswers())
	})
	t.Run("the guest reboots", func(t *testing.T) {
		boot := s.hostctl("ssh", "-c", "cat /proc/sys/kernel/random/boot_id")
		s.try(t.Context(), "ssh", "-c", "sudo systemctl reboot")
		s.eventually("another boot", func() error {
			if r := s.try(t.Context(), "ssh", "-c", "cat /proc/sys/kernel/random/boot_id"); r.code != 0 || r.stdout == boot {
				return fmt.Errorf("exit %d, %q", r.code, r.stdout)
			}
			return nil
		})
		right(t, s.dockerAnswers())
	})
	if provider == "qemu" { // the others differ in how a guest is reached only
		s.resetAndHalt(t, right)
	}

	if log, err := os.ReadFile(filepath.Join(s.dir, ".hostctl", "agent.log")); err == nil {
		t.Logf("the agent said:\n%s", log)
	}
	tr := s.traces()
	s.hostctl("destroy", "--yes")
	s.nothingLeft(tr)
	s.eventually("the agent has ended", func() error {
		if pids := processes(t, s.dir); len(pids) > 0 {
			return fmt.Errorf("processes %v", pids)
		}
		return nil
	})
}

func (s *site) resetAndHalt(t *testing.T, right func(*testing.T, time.Time)) {
	t.Run("the guest is reset", func(t *testing.T) {
		boot := s.hostctl("ssh", "-c", "cat /proc/sys/kernel/random/boot_id")
		// Without a word to those who are connected.
		s.try(t.Context(), "ssh", "-c", "echo b | sudo tee /proc/sysrq-trigger")
		s.eventually("another boot", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if r := s.try(ctx, "ssh", "-c", "cat /proc/sys/kernel/random/boot_id"); r.code != 0 || r.stdout == boot {
				return fmt.Errorf("exit %d, %q", r.code, r.stdout)
			}
			return nil
		})
		right(t, s.dockerAnswers())
	})
	t.Run("halt and up", func(t *testing.T) {
		s.hostctl("halt")
		if p := s.published(); len(p) > 0 {
			t.Errorf("published though the machine is down: %v", p)
		}
		s.hostctl("up")
		right(t, time.Now())
	})
}

// dockerAnswers waits for the guest's Docker and returns when it did.
func (s *site) dockerAnswers() time.Time {
	s.t.Helper()
	host := strings.Replace(s.status()[0].DockerHost, "tcp://", "http://", 1)
	s.eventually("Docker answers", func() error {
		_, err := get(s.t.Context(), host+"/_ping")
		return err
	})
	return time.Now()
}

// says waits until an HTTP server on the host's port says text.
func (s *site) says(port int, text string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("port %d says %s", port, text), func() error {
		got, err := get(s.t.Context(), fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err == nil && got != text {
			err = fmt.Errorf("it says %q", got)
		}
		return err
	})
}

func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// echoes waits until datagrams to the host's port come back.
func (s *site) echoes(port int) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("UDP port %d answers", port), func() error {
		c, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		defer c.Close()
		check(s.t, c.SetDeadline(time.Now().Add(300*time.Millisecond)))
		if _, err := c.Write([]byte("are you there")); err != nil {
			return err
		}
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if err == nil && string(buf[:n]) != "are you there" {
			err = fmt.Errorf("%q came back", buf[:n])
		}
		return err
	})
}

func (s *site) eventually(what string, attempt func() error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit/2)
	defer cancel()
	if err := wait.Until(ctx, 20*time.Millisecond, func(context.Context) error { return attempt() }); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

type publishedPort struct {
	Name      string
	HostPort  int `json:"host_port"`
	GuestPort int `json:"guest_port"`
	Container string
	GuestIP   string `json:"guest_ip"`
	Error     string
}

// published are the only machine's published ports by name.
func (s *site) published() map[string]publishedPort {
	s.t.Helper()
	var machines []struct{ Published []publishedPort }
	check(s.t, json.Unmarshal([]byte(s.hostctl("status", "-o", "json")), &machines))
	out := map[string]publishedPort{}
	for _, p := range machines[0].Published {
		out[p.Name] = p
	}
	return out
}

// killAgent ends the project's agent without a word.
func (s *site) killAgent() {
	s.t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	check(s.t, err)
	killed := 0
	for _, path := range found {
		data, _ := os.ReadFile(path) // the process may have ended
		args := strings.Split(string(data), "\x00")
		if len(args) < 3 || args[1] != "agent" || args[2] != s.dir {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		check(s.t, err)
		check(s.t, syscall.Kill(pid, syscall.SIGKILL))
		killed++
	}
	if killed != 1 {
		s.t.Fatalf("the project had %d agents", killed)
	}
}

// freeHostPort returns a port that nobody has, below those that the system
// gives to connections.
func freeHostPort(t *testing.T) int {
	t.Helper()
	port := 10000 + rand.N(20000)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return freeHostPort(t)
	}
	defer l.Close()
	c, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return freeHostPort(t)
	}
	defer c.Close()
	return port
}

// writeServer writes a root file system of testdata/server.
func writeServer(t *testing.T, path string) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "server")
	build := exec.Command("go", "build", "-o", bin, "./testdata/server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(bin)
	check(t, err)
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	w := tar.NewWriter(f)
	check(t, w.WriteHeader(&tar.Header{Name: "server", Mode: 0o755, Size: int64(len(data))}))
	_, err = w.Write(data)
	check(t, err)
	check(t, w.Close())
}
