//go:build e2e

// Package e2e boots real guests and uses them as people do: through the
// hostctl binary, a shell and the unmodified Docker client.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/lab"
)

// hostctl is the binary under test, built by TestMain outside the lab.
var hostctl string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

// binary is the variable that carries the binary under test into the lab, where
// nothing can be downloaded that its build might need.
const binary = "HOSTCTL_E2E_BINARY"

// testMain runs all tests in one lab, so that the ports and addresses of the
// examples are theirs alone.
func testMain(m *testing.M) int {
	if hostctl = os.Getenv(binary); hostctl != "" {
		return lab.Run(m, lab.Wanted())
	}
	dir, err := os.MkdirTemp("", "hostctl-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Another user runs it too.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	hostctl = filepath.Join(dir, "hostctl")
	build := exec.Command("go", "build", "-o", hostctl, "../cmd/hostctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build hostctl:", err)
		return 1
	}
	if err := os.Setenv(binary, hostctl); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return lab.Run(m, lab.Wanted())
}

// limit bounds one command. A boot takes a minute here, several on a busy
// machine; nothing is asserted about it.
const limit = 20 * time.Minute

// site is a project directory with directories of hostctl's own around it, so
// that neither the user's projects nor other tests are seen. Only the image
// cache is shared.
type site struct {
	t     *testing.T
	dir   string
	env   []string
	user  *syscall.Credential // nil: whoever runs the tests
	state string
	run   string
	// before is what there was on the host before the project.
	before []string
}

// newSite makes the project in a directory named below, which may be deep. It
// destroys what the test leaves.
func newSite(t *testing.T, below, machineFile string) *site {
	t.Helper()
	root := tempDir(t, "hostctl-e2e")
	run := tempDir(t, "hc") // sockets live there: the path must be short
	s := &site{
		t:     t,
		dir:   filepath.Join(root, below),
		state: filepath.Join(root, "state"),
		run:   run,

		before: inventory(t),
	}
	check(t, os.MkdirAll(s.dir, 0o755))
	s.write(machineFile)
	cache, err := os.UserCacheDir()
	check(t, err)
	s.env = []string{
		"PATH=" + filepath.Dir(hostctl) + ":" + os.Getenv("PATH"),
		"HOME=" + root,
		"XDG_STATE_HOME=" + s.state,
		"XDG_RUNTIME_DIR=" + run,
		"XDG_CACHE_HOME=" + cache,
		"XDG_CONFIG_HOME=" + filepath.Join(root, "config"),
		"TERM=xterm",
		"SHELL=/bin/bash",
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.showSerialLogs()
		}
		// A guest that stays behind would run for ever.
		if r := s.try(context.Background(), "destroy", "--yes"); r.code != 0 {
			t.Errorf("destroy: exit %d\n%s", r.code, r.stderr)
		}
	})
	return s
}

// in is the site as a subtest uses it, whose failures are its own.
func (s *site) in(t *testing.T) *site {
	in := *s
	in.t = t
	return &in
}

// write puts another machine file in the place of the one that is there.
func (s *site) write(machineFile string) {
	s.t.Helper()
	check(s.t, os.WriteFile(filepath.Join(s.dir, "machine.hcl"), []byte(machineFile), 0o644))
}

// tempDir makes a directory that other users can be let into, unlike that of
// testing.T.
func tempDir(t *testing.T, prefix string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", prefix)
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	return dir
}

func (s *site) showSerialLogs() {
	logs, _ := filepath.Glob(filepath.Join(s.dir, ".hostctl", "machines", "*", "serial.log"))
	logs = append(logs, filepath.Join(s.dir, ".hostctl", "agent.log"))
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err == nil {
			lines := strings.Split(string(data), "\n")
			s.t.Logf("end of %s:\n%s", path, strings.Join(lines[max(0, len(lines)-30):], "\n"))
		}
	}
}

// result is a finished command.
type result struct {
	stdout, stderr string
	code           int
}

func (s *site) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = s.dir, s.env
	if s.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	}
	return cmd
}

func (s *site) exec(ctx context.Context, stdin string, argv ...string) result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := s.command(ctx, argv...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Errorf("%q: %v", argv, err)
		return result{code: -1}
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// try runs hostctl in the project directory, whatever its exit code.
func (s *site) try(ctx context.Context, args ...string) result {
	s.t.Helper()
	return s.exec(ctx, "", append([]string{hostctl}, args...)...)
}

// hostctl runs hostctl, which must succeed, and returns its standard output.
func (s *site) hostctl(args ...string) string {
	s.t.Helper()
	r := s.try(s.t.Context(), args...)
	if r.code != 0 {
		s.t.Fatalf("hostctl %q: exit %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// shell runs a script in bash as a user would, after eval "$(hostctl env)".
// It must succeed.
func (s *site) shell(script string) string {
	s.t.Helper()
	r := s.exec(s.t.Context(), "", "bash", "-euo", "pipefail", "-c", `eval "$(hostctl env)"; `+script)
	if r.code != 0 {
		s.t.Fatalf("%s: exit %d\n%s%s", script, r.code, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// machineStatus is what the tests read of status -o json.
type machineStatus struct {
	Name, Provider, State string
	SSH                   *struct {
		Host string
		Port int
		User string
	}
	DockerHost string `json:"docker_host"`
	Forwards   []struct {
		Name      string
		HostIP    string `json:"host_ip"`
		HostPort  int    `json:"host_port"`
		GuestPort int    `json:"guest_port"`
	}
}

func (s *site) status() []machineStatus {
	s.t.Helper()
	var out []machineStatus
	check(s.t, json.Unmarshal([]byte(s.hostctl("status", "-o", "json")), &out))
	return out
}

// machineState is what the tests read of the state file.
type machineState struct {
	ID       string `json:"domain_id"`
	Forwards []struct {
		HostIP   string `json:"host_ip"`
		HostPort int    `json:"host_port"`
	}
	NICs []struct{ Network, MAC, Address string }
}

// machines reads the state file; without one there are none.
func (s *site) machines() map[string]machineState {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, ".hostctl", "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	check(s.t, err)
	var state struct{ Machines map[string]machineState }
	check(s.t, json.Unmarshal(data, &state))
	return state.Machines
}

func example(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "examples", name, "machine.hcl"))
	check(t, err)
	return string(data)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contains(t *testing.T, what, text string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			t.Errorf("%s lacks %q:\n%s", what, w, text)
		}
	}
}
