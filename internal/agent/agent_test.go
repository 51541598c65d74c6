//go:build !windows

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		os.Exit(agentProcess(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// agentProcess is the agent as another process: directory, state home, file
// of the fake provider, version.
func agentProcess(args []string) int {
	ctx, stop := signalContext()
	defer stop()
	p, err := project.Open(args[0], project.Options{StateHome: args[1]})
	if err == nil {
		fake := &providertest.Fake{Path: args[2]}
		err = agent.Run(ctx, agent.Config{
			Project:  p,
			Provider: func(string) (provider.Provider, error) { return fake, nil },
			Target:   noSSH,
			Version:  args[3],
			Log:      os.Stderr,
			Idle:     time.Second,
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

var errNoSSH = errors.New("no SSH here")

func noSSH(string, project.MachineState) (sshclient.Target, error) {
	return sshclient.Target{}, errNoSSH
}

// bench is a project whose machines a fake provider runs.
type bench struct {
	t       *testing.T
	project *project.Project
	fake    *providertest.Fake
	home    string
	client  *agent.Client
}

func newBench(t *testing.T) *bench {
	t.Helper()
	// Not t.TempDir: sockets' paths are short.
	home, err := os.MkdirTemp("", "hc")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(home)) })
	dir := filepath.Join(home, "project")
	check(t, os.Mkdir(dir, 0o755))
	p, err := project.Open(dir, project.Options{StateHome: home})
	check(t, err)
	b := &bench{t: t, project: p, home: home, fake: &providertest.Fake{Path: filepath.Join(home, "fake.json")}}
	b.client = b.newClient("1")
	t.Cleanup(func() {
		check(t, b.client.Stop(context.Background()))
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(b.project.StateDir(), "agent.log"))
			t.Logf("the agent's log:\n%s", log)
		}
	})
	return b
}

// newClient starts agents that are processes.
func (b *bench) newClient(version string) *agent.Client {
	return &agent.Client{
		Project:  b.project,
		Provider: func(string) (provider.Provider, error) { return b.fake, nil },
		Version:  version,
		Command:  []string{os.Args[0], "agent", b.project.Dir(), b.home, b.fake.Path, version},
	}
}

// machine writes a machine into the state and starts its domain. Its Docker
// engine is at the host's port docker.
func (b *bench) machine(name string, docker uint16, forwards ...network.Forward) project.MachineState {
	b.t.Helper()
	forwards = append([]network.Forward{{
		Name: "docker", Protocol: "tcp", HostIP: loopback, HostPort: docker, GuestPort: 2375,
	}}, forwards...)
	ms := project.MachineState{
		Provider: "fake",
		DomainID: "00000000-0000-4000-8000-0000000000" + fmt.Sprintf("%02x", len(name)),
		Spec:     project.Spec{DockerPort: 2375, PublishPorts: true},
		Forwards: forwards,
	}
	b.update(func(s *project.State) { s.Machines[name] = ms })
	// The engine itself has the port of its forward.
	check(b.t, b.fake.Create(b.t.Context(), provider.Domain{Name: name, ID: ms.DomainID}))
	check(b.t, b.fake.Start(b.t.Context(), name))
	return ms
}

func (b *bench) update(change func(*project.State)) {
	b.t.Helper()
	unlock, err := b.project.Lock(b.t.Context(), "test", nil)
	check(b.t, err)
	check(b.t, b.project.Update(func(s *project.State) error {
		change(s)
		return nil
	}))
	check(b.t, unlock())
}

// live are the machine's forwards in the fake, sorted.
func (b *bench) live(name string) []string {
	b.t.Helper()
	fs, err := b.fake.LiveForwards(b.t.Context(), name)
	check(b.t, err)
	var out []string
	for _, f := range fs {
		out = append(out, f.String())
	}
	slices.Sort(out)
	return out
}

// eventually waits until the machine's forwards are these.
func (b *bench) eventually(name string, want ...string) {
	b.t.Helper()
	slices.Sort(want)
	b.until(func() error {
		if got := b.live(name); !slices.Equal(got, want) {
			return fmt.Errorf("forwards %q, want %q", got, want)
		}
		return nil
	})
}

func (b *bench) until(attempt func() error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	err := wait.Until(ctx, 10*time.Millisecond, func(context.Context) error { return attempt() })
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) sync(machine string) {
	b.t.Helper()
	check(b.t, b.client.Sync(b.t.Context(), machine))
}

func (b *bench) status() agent.Status {
	b.t.Helper()
	s, err := b.client.Status(b.t.Context())
	check(b.t, err)
	return s
}

// published are the machine's published ports as status shows them:
// "web:80/tcp 127.0.0.1:8080 8080".
func (b *bench) published(name string) []string {
	b.t.Helper()
	var out []string
	for _, p := range b.status().Machines[name].Published {
		text := fmt.Sprintf("%s %s %d", p.Name, p.HostAddr(), p.GuestPort)
		if p.Error != "" {
			text += " " + p.Error
		}
		out = append(out, text)
	}
	return out
}

var loopback = netip.MustParseAddr("127.0.0.1")

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// handedOut are the ports that tests have, also while nobody listens.
var handedOut sync.Map

// free returns a port of loopback that nobody has, below those that the system
// gives to connections, and those of shares: they must not take it while nobody
// listens. The next seven are not handed out: who finds one taken takes the next.
func free(t *testing.T) uint16 {
	t.Helper()
	port := 10000 + 8*rand.N[uint16](1250)
	if _, taken := handedOut.LoadOrStore(port, true); taken {
		return free(t)
	}
	t.Cleanup(func() { handedOut.Delete(port) })
	for _, protocol := range []string{"tcp", "udp"} {
		if network.Probe(t.Context(), network.Forward{Protocol: protocol, HostIP: loopback, HostPort: port}) != nil {
			return free(t)
		}
	}
	return port
}

func TestPublishedPortsFollowContainers(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	b.machine("core-01", e.port())
	web, dns := free(t), free(t)
	e.run("early", "172.17.0.2", fmt.Sprintf("0.0.0.0:%d:80/tcp", web))
	b.sync("core-01")
	early := fmt.Sprintf("127.0.0.1:%d -> %d/tcp", web, web)
	b.eventually("core-01", early)

	e.run("dns", "172.17.0.3", fmt.Sprintf("0.0.0.0:%d:53/udp", dns))
	b.eventually("core-01", early, fmt.Sprintf("127.0.0.1:%d -> %d/udp", dns, dns))
	want := []string{
		fmt.Sprintf("early:80/tcp 127.0.0.1:%d %d", web, web),
		fmt.Sprintf("dns:53/udp 127.0.0.1:%d %d", dns, dns),
	}
	if dns < web {
		slices.Reverse(want)
	}
	b.until(func() error {
		if got := b.published("core-01"); !slices.Equal(got, want) {
			return fmt.Errorf("published %q, want %q", got, want)
		}
		return nil
	})

	e.end("early")
	b.eventually("core-01", fmt.Sprintf("127.0.0.1:%d -> %d/udp", dns, dns))

	// The engine restarts, and with it another container.
	e.stop()
	e.start()
	e.run("late", "172.17.0.2", fmt.Sprintf("0.0.0.0:%d:80/tcp", web))
	b.eventually("core-01", early)

	check(t, b.client.Stop(t.Context()))
	b.eventually("core-01")
}

// A taken port moves on to the next free one, also one that a machine that is
// down has in the state.
func TestPublishedPortTaken(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	taken := e.port() // by the engine
	b.machine("core-01", e.port())
	b.update(func(s *project.State) {
		s.Machines["core-002"] = project.MachineState{Provider: "fake", Forwards: []network.Forward{
			{Name: "web", Protocol: "tcp", HostIP: loopback, HostPort: taken + 1, GuestPort: 80},
		}}
	})
	e.run("web", "172.17.0.2", fmt.Sprintf("0.0.0.0:%d:80/tcp", taken))
	b.sync("core-01")
	b.until(func() error {
		live := b.live("core-01")
		if len(live) != 1 {
			return fmt.Errorf("forwards %q", live)
		}
		return nil
	})
	f, err := b.fake.LiveForwards(t.Context(), "core-01")
	check(t, err)
	if f[0].HostPort <= taken+1 || f[0].GuestPort != taken {
		t.Errorf("got %s for %d", f[0], taken)
	}
}

// A declared forward of the same port is all that is needed; one that leads to
// it from another host port takes nothing away; and one that is declared later
// gets its port.
func TestPublishedPortDeclared(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	other, guest := free(t), free(t)
	ms := b.machine("core-01", e.port(),
		network.Forward{Name: "app", Protocol: "tcp", HostIP: loopback, HostPort: other, GuestPort: guest},
		network.Forward{Name: "web", Protocol: "tcp", HostIP: netip.IPv4Unspecified(), HostPort: guest, GuestPort: guest})
	e.run("web", "172.17.0.2", fmt.Sprintf("0.0.0.0:%d:80/tcp", guest))
	b.sync("core-01")
	b.until(func() error {
		want := []string{fmt.Sprintf("web:80/tcp 0.0.0.0:%d %d", guest, guest)}
		if got := b.published("core-01"); !slices.Equal(got, want) {
			return fmt.Errorf("published %q, want %q", got, want)
		}
		return nil
	})
	if live := b.live("core-01"); len(live) > 0 {
		t.Errorf("forwards %q beside the declared one", live)
	}

	// The declared one of that port is gone: now the agent has to forward.
	ms.Forwards = ms.Forwards[:2]
	b.update(func(s *project.State) { s.Machines["core-01"] = ms })
	b.sync("core-01")
	b.eventually("core-01", fmt.Sprintf("127.0.0.1:%d -> %d/tcp", guest, guest))

	// Another machine of the project declares that host port.
	b.update(func(s *project.State) {
		s.Machines["core-002"] = project.MachineState{Provider: "fake", Forwards: []network.Forward{
			{Name: "web", Protocol: "tcp", HostIP: loopback, HostPort: guest, GuestPort: 80},
		}}
	})
	b.sync("core-01")
	b.until(func() error {
		if live := b.live("core-01"); len(live) != 1 || strings.HasPrefix(live[0], fmt.Sprintf("127.0.0.1:%d ", guest)) {
			return fmt.Errorf("forwards %q", live)
		}
		return nil
	})
}

// Killed at any moment, the agent leaves what the next takes over.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	b.machine("core-01", e.port())
	one, two := free(t), free(t)
	e.run("one", "172.17.0.2", fmt.Sprintf("0.0.0.0:%d:80/tcp", one))
	b.sync("core-01")
	b.eventually("core-01", fmt.Sprintf("127.0.0.1:%d -> %d/tcp", one, one))
	b.kill()
	if _, err := b.client.Status(t.Context()); !errors.Is(err, agent.ErrNotRunning) {
		t.Fatalf("status without an agent: %v", err)
	}
	e.end("one")
	e.run("two", "172.17.0.2", fmt.Sprintf("0.0.0.0:%d:80/tcp", two))
	check(t, b.client.Ensure(t.Context(), "core-01"))
	b.eventually("core-01", fmt.Sprintf("127.0.0.1:%d -> %d/tcp", two, two))

	for i := range 10 {
		b.kill()
		// At another moment of its start each time.
		started := make(chan error, 1)
		go func() { started <- b.client.Sync(t.Context(), "core-01") }()
		b.until(func() error {
			pid, err := b.pid()
			if err == nil {
				err = syscall.Kill(pid, syscall.SIGKILL)
			}
			if err != nil && i < 5 {
				return err
			}
			return nil
		})
		<-started // it may have failed with its agent
		b.sync("core-01")
	}
	b.eventually("core-01", fmt.Sprintf("127.0.0.1:%d -> %d/tcp", two, two))
}

// That an agent died is told, once by each command that finds it so, and what it
// said is kept. One that was ended is nobody's concern.
func TestDeathIsTold(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	b.machine("core-01", e.port())
	var notices []string
	follow := func() {
		t.Helper()
		notices = nil
		c := b.newClient("1")
		c.Notice = func(format string, args ...any) { notices = append(notices, fmt.Sprintf(format, args...)) }
		check(t, c.Sync(t.Context(), "core-01"))
		check(t, c.Sync(t.Context(), "core-01"))
	}
	follow()
	first := b.status().PID
	check(t, b.client.Stop(t.Context()))
	follow()
	if len(notices) > 0 {
		t.Errorf("of an agent that was stopped: %q", notices)
	}
	b.kill()
	follow()
	if len(notices) != 1 || !strings.HasPrefix(notices[0], "the project's agent did not run any more and was started anew; ") || !strings.HasSuffix(notices[0], "agent.log") {
		t.Errorf("told %q", notices)
	}
	log, err := os.ReadFile(filepath.Join(b.project.StateDir(), "agent.log"))
	check(t, err)
	for _, pid := range []int{first, b.status().PID} {
		if !strings.Contains(string(log), fmt.Sprintf("msg=begins pid=%d ", pid)) {
			t.Errorf("the log has nothing of agent %d:\n%s", pid, log)
		}
	}
}

// pid is the agent's by its file.
func (b *bench) pid() (int, error) {
	files, err := b.project.AgentFiles()
	if err != nil {
		return 0, err
	}
	data, err := os.ReadFile(files.PID)
	if err != nil {
		return 0, err
	}
	var pid int
	_, err = fmt.Sscan(string(data), &pid)
	return pid, err
}

// kill ends the agent at once.
func (b *bench) kill() {
	b.t.Helper()
	pid := b.status().PID
	check(b.t, syscall.Kill(pid, syscall.SIGKILL))
	b.until(func() error {
		if _, err := b.client.Status(b.t.Context()); errors.Is(err, agent.ErrNotRunning) {
			return nil
		}
		return errors.New("it answers still")
	})
}

// Machines of one command that come up at once have one agent started.
func TestMachinesStartOneAgent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	starts := filepath.Join(b.home, "starts")
	b.client.Command = append([]string{"sh", "-c", `echo once >>"$0" && exec "$@"`, starts}, b.client.Command...)
	names := []string{"a", "bb", "ccc", "dddd"}
	for _, name := range names {
		b.machine(name, newEngine(t).port())
	}
	var all errgroup.Group
	for _, name := range names {
		all.Go(func() error { return b.client.Sync(t.Context(), name) })
	}
	check(t, all.Wait())
	if got, err := os.ReadFile(starts); err != nil || string(got) != "once\n" {
		t.Errorf("started: %q, %v", got, err)
	}
}

// Of agents that are started at once, one stays.
func TestStartedTwice(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	b.machine("core-01", e.port())
	errs := make(chan error)
	const starters = 8
	for range starters {
		go func() { errs <- b.newClient("1").Sync(t.Context(), "core-01") }()
	}
	for range starters {
		check(t, <-errs)
	}
	b.until(func() error {
		if pids := agents(t, b.project.Dir()); len(pids) != 1 {
			return fmt.Errorf("agents %v", pids)
		}
		return nil
	})
}

// agents returns the processes of the project's agents.
func agents(t *testing.T, dir string) []string {
	t.Helper()
	out, err := exec.Command("ps", "-eo", "pid=,args=").Output()
	check(t, err)
	var pids []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); slices.Contains(fields, dir) && slices.Contains(fields, "agent") {
			pids = append(pids, fields[0])
		}
	}
	return pids
}

// An agent of another hostctl is replaced, one that hangs, too.
func TestReplaced(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	b.machine("core-01", e.port())
	b.sync("core-01")
	first := b.status()
	check(t, b.newClient("2").Sync(t.Context(), "core-01"))
	second := b.status()
	if first.PID == second.PID || first.Version != "1" || second.Version != "2" {
		t.Errorf("%+v, then %+v", first, second)
	}
	var notices []string
	b.client.Notice = func(format string, args ...any) { notices = append(notices, fmt.Sprintf(format, args...)) }
	check(t, syscall.Kill(second.PID, syscall.SIGSTOP))
	b.sync("core-01")
	if len(notices) != 1 || !strings.HasPrefix(notices[0], "the project's agent did not answer, so it was ended and started anew; ") {
		t.Errorf("of an agent that hung: %q", notices)
	}
	if third := b.status(); third.PID == second.PID {
		t.Error("the agent that hangs was not replaced")
	}
}

// Machines that were destroyed leave nothing behind that says where the next
// ones are.
func TestReplacedForAnotherLibvirt(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	b.machine("core-01", e.port())
	pids := map[string]int{}
	for _, uri := range []string{"", "qemu:///system", "qemu+ssh://there/system"} {
		b.update(func(s *project.State) { s.LibvirtURI = uri })
		b.sync("core-01")
		pids[uri] = b.status().PID
	}
	if pids[""] != pids["qemu:///system"] || pids["qemu:///system"] == pids["qemu+ssh://there/system"] {
		t.Errorf("agents: %v", pids)
	}
}

// slow is a provider that takes longer to answer than an agent stays for nothing.
type slow struct {
	*providertest.Fake
	takes time.Duration
}

func (s slow) Status(ctx context.Context, name string) (provider.Status, error) {
	select {
	case <-time.After(s.takes):
		return s.Fake.Status(ctx, name)
	case <-ctx.Done():
		return provider.Status{}, context.Cause(ctx)
	}
}

// An agent that somebody waits for is not idle.
func TestNotIdleWhileAsked(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	b.machine("core-01", e.port())
	const idle = 2 * time.Second
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	files, err := b.project.AgentFiles()
	check(t, err)
	log, err := os.OpenFile(files.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	check(t, err)
	defer log.Close()
	go func() {
		ended <- agent.Run(ctx, agent.Config{
			Project: b.project, Version: "1", Target: noSSH, Log: log, Idle: idle,
			Provider: func(string) (provider.Provider, error) { return slow{b.fake, 3 * idle / 2}, nil },
		})
	}()
	b.until(func() error {
		_, err := b.client.Status(t.Context())
		return err
	})
	alone := b.newClient("1")
	alone.Command = nil // it can start no other
	check(t, alone.Sync(t.Context(), "core-01"))
	stop()
	check(t, <-ended)
}

// Nothing runs when nothing needs it.
func TestIdle(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	check(t, b.client.Sync(t.Context(), "core-01")) // without a state
	ms := b.machine("core-01", e.port())
	ms.Spec.PublishPorts = false
	b.update(func(s *project.State) { s.Machines["core-01"] = ms })
	b.sync("core-01")
	check(t, b.client.Ensure(t.Context(), "core-01"))
	notRunning := func() error {
		_, err := b.client.Status(t.Context())
		if errors.Is(err, agent.ErrNotRunning) {
			return nil
		}
		return fmt.Errorf("status: %w", err)
	}
	check(t, notRunning())

	ms.Spec.PublishPorts = true
	b.update(func(s *project.State) { s.Machines["core-01"] = ms })
	check(t, b.fake.Stop(t.Context(), "core-01"))
	b.sync("core-01")
	check(t, notRunning())

	check(t, b.fake.Start(t.Context(), "core-01"))
	b.sync("core-01")
	b.status()
	check(t, b.fake.Stop(t.Context(), "core-01"))
	b.until(notRunning)

	check(t, b.fake.Start(t.Context(), "core-01"))
	b.sync("core-01")
	check(t, os.RemoveAll(b.project.StateDir()))
	b.until(func() error {
		if pids := agents(t, b.project.Dir()); len(pids) > 0 {
			return fmt.Errorf("agents %v", pids)
		}
		return nil
	})
}

// A project that is moved takes its agent along.
func TestMoved(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	b.machine("core-01", e.port())
	b.sync("core-01")
	first := b.status()
	moved := filepath.Join(b.home, "moved")
	check(t, os.Rename(b.project.Dir(), moved))
	p, err := project.Open(moved, project.Options{StateHome: b.home})
	check(t, err)
	b.project = p
	b.client = b.newClient("1")
	b.sync("core-01")
	if s := b.status(); s.PID == first.PID || s.Machines["core-01"].Error != "" {
		t.Errorf("%+v, then %+v", first, s)
	}
	b.until(func() error {
		if pids := append(agents(t, moved), agents(t, filepath.Join(b.home, "project"))...); len(pids) != 1 {
			return fmt.Errorf("agents %v", pids)
		}
		return nil
	})
}

// A machine does not get all of the host's ports.
func TestTooManyPublished(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	b.fake.Path = ""
	b.machine("core-01", e.port())
	b.here(func(*agent.Config) {})
	var ports []string
	for p := range 1001 {
		ports = append(ports, fmt.Sprintf("0.0.0.0:%d:%d/udp", 31000+p, p+1))
	}
	e.run("many", "172.17.0.2", ports...)
	b.sync("core-01")
	b.until(func() error {
		got := b.published("core-01")
		want := "many:1001/udp 127.0.0.1:32000 32000 only 1000 ports of a machine are forwarded"
		if len(got) != 1001 || got[1000] != want {
			return fmt.Errorf("%d published: %q", len(got), got[max(0, len(got)-1):])
		}
		return nil
	})
	if n := len(b.live("core-01")); n != 1000 {
		t.Errorf("%d forwards", n)
	}
}
