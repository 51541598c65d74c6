package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
)

// agentFake binds the forwards of the state as the agent would, on paper.
type agentFake struct {
	b *bench

	mu     sync.Mutex
	syncs  []string
	stops  int
	bound  []network.Forward
	refuse map[uint16]bool // host ports that somebody else holds
	err    error
}

func (a *agentFake) Sync(_ context.Context, machine string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.syncs = append(a.syncs, machine)
	if a.err != nil {
		return a.err
	}
	a.bound = nil
	for _, f := range a.b.state().Machines[machine].Forwards {
		if a.refuse[f.HostPort] {
			return &provider.PortError{Forward: f, Err: &network.InUseError{Addr: f.HostAddr(), Protocol: f.Protocol}}
		}
		a.bound = append(a.bound, f)
	}
	return nil
}

func (a *agentFake) Stop(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stops++
	return nil
}

// withAgent hides that the fake forwards ports: the agent does.
func (b *bench) withAgent() *agentFake {
	a := &agentFake{b: b, refuse: map[uint16]bool{}}
	b.agent = a
	b.provider = struct {
		provider.Provider
		provider.HostOnlyNetworker
	}{b.fake, b.fake}
	return a
}

func forward(fs []network.Forward, name string) (network.Forward, bool) {
	i := slices.IndexFunc(fs, func(f network.Forward) bool { return f.Name == name })
	if i < 0 {
		return network.Forward{}, false
	}
	return fs[i], true
}

// freePorts returns ports that were free a moment ago.
func freePorts(t *testing.T, n int) []uint16 {
	t.Helper()
	var ports []uint16
	for tries := 0; len(ports) < n; tries++ {
		port := uint16(20000 + (uint32(os.Getpid())*97+portsTried.Add(1))%12000)
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			if tries > 1000 {
				t.Fatal(err)
			}
			continue
		}
		l.Close()
		ports = append(ports, port)
	}
	return ports
}

// portsTried keeps tests that run at one time from the same ports. They are below those
// that systems give to whoever asks for any, as other tests do.
var portsTried atomic.Uint32

func webMachine(blocks ...string) string {
	return "machine \"core-01\" {\n  image = \"dockerhost\"\n" + strings.Join(blocks, "\n") + "\n}\n"
}

func web(name string, host uint16, guest int, more ...string) string {
	return fmt.Sprintf("forward %q {\n guest = %d\n host = %d\n%s\n}", name, guest, host, strings.Join(more, "\n"))
}

// Changed forwards are in force after up, in a machine that ran all the time.
func TestUpChangesForwardsOfARunningMachine(t *testing.T) {
	t.Parallel()
	for _, carrier := range []string{"hypervisor", "agent"} {
		t.Run(carrier, func(t *testing.T) {
			t.Parallel()
			p := freePorts(t, 3)
			b := newBench(t, webMachine(web("one", p[0], 80), web("two", p[1], 81)))
			var agent *agentFake
			if carrier == "agent" {
				agent = b.withAgent()
			}
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := b.state().Machines["core-01"]
			// one takes over two's port, two is gone, three is new.
			b.edit(webMachine(web("one", p[1], 80), web("three", p[2], 82, `protocol = "udp"`)))
			calls := len(b.fake.Calls())
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			after := b.state().Machines["core-01"]
			got := []string{}
			for _, f := range after.Forwards {
				got = append(got, f.Name+" "+f.String())
			}
			ssh, _ := forward(before.Forwards, "ssh")
			docker, _ := forward(before.Forwards, "docker")
			want := []string{
				fmt.Sprintf("one 127.0.0.1:%d -> 80/tcp", p[1]), fmt.Sprintf("three 127.0.0.1:%d -> 82/udp", p[2]),
				"ssh " + ssh.String(), "docker " + docker.String(),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("forwards (-want +got):\n%s", diff)
			}
			if agent != nil {
				if diff := cmp.Diff(after.Forwards, agent.bound, cmp.Comparer(func(a, b network.Forward) bool { return a == b })); diff != "" {
					t.Errorf("the agent forwards (-want +got):\n%s", diff)
				}
				if d, _ := b.fake.Domain("core-01"); len(d.Forwards) > 0 {
					t.Errorf("the provider was told of forwards: %v", d.Forwards)
				}
			} else {
				live, err := b.fake.LiveForwards(t.Context(), "core-01")
				if err != nil || len(live) != len(want) {
					t.Errorf("in force: %v, %v", live, err)
				}
			}
			for _, call := range b.fake.Calls()[calls:] {
				if strings.HasPrefix(call, "stop") {
					t.Errorf("the machine was stopped: %v", b.fake.Calls()[calls:])
				}
			}
			// And that is all.
			b.events.clear()
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"done"}, b.events.steps("core-01")); diff != "" {
				t.Errorf("the next up (-want +got):\n%s", diff)
			}
		})
	}
}

// Wherever a change of forwards is interrupted, the next up finishes it.
func TestChangeOfForwardsThatFails(t *testing.T) {
	t.Parallel()
	for _, op := range []providertest.Op{providertest.LiveForwards, providertest.AddForward, providertest.RemoveForward, providertest.Create} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			p := freePorts(t, 3)
			b := newBench(t, webMachine(web("one", p[0], 80), web("two", p[1], 81)))
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.edit(webMachine(web("one", p[1], 80), web("three", p[2], 82)))
			boom, failed := errors.New("boom"), false
			b.fake.Before = func(_ context.Context, o providertest.Op, _ string) error {
				if o == op {
					failed = true
					return boom
				}
				return nil
			}
			if err := b.up(t.Context()); !errors.Is(err, boom) || !failed {
				t.Fatalf("up: %v, want boom", err)
			}
			// What is in force is in the state.
			b.fake.Before = nil
			live, err := b.fake.LiveForwards(t.Context(), "core-01")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range live {
				if !slices.ContainsFunc(b.state().Machines["core-01"].Forwards, func(o network.Forward) bool { return o.HostAddr() == f.HostAddr() }) {
					t.Errorf("%s is in force, and the state does not know it", f)
				}
			}
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			live, err = b.fake.LiveForwards(t.Context(), "core-01")
			if err != nil {
				t.Fatal(err)
			}
			if f, ok := forward(live, "one"); !ok || f.HostPort != p[1] || len(live) != 4 {
				t.Errorf("in force: %v", live)
			}
		})
	}
}

// A rule that a killed run left in the hypervisor is taken over, or away.
func TestForwardsLeftBehind(t *testing.T) {
	t.Parallel()
	p := freePorts(t, 2)
	b := newBench(t, webMachine(web("one", p[0], 80)))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, _ := forward(b.state().Machines["core-01"].Forwards, "one")
	f.HostPort, f.Name = p[1], "two"
	if err := b.fake.AddForward(t.Context(), "core-01", f); err != nil {
		t.Fatal(err)
	}
	// The file asks for it now.
	b.edit(webMachine(web("one", p[0], 80), web("two", p[1], 80)))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if live, _ := b.fake.LiveForwards(t.Context(), "core-01"); len(live) != 4 {
		t.Errorf("in force: %v", live)
	}
	// One that nobody asks for.
	f.GuestPort = 99
	f.HostPort = freePorts(t, 1)[0]
	if err := b.fake.AddForward(t.Context(), "core-01", f); err != nil {
		t.Fatal(err)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if live, _ := b.fake.LiveForwards(t.Context(), "core-01"); len(live) != 4 {
		t.Errorf("in force: %v", live)
	}
}

// A forward that moved on from its first choice stays while the file says the
// same.
func TestForwardThatMovedStays(t *testing.T) {
	t.Parallel()
	l, port := listen(t)
	other := freePorts(t, 1)[0]
	b := newBench(t, webMachine(web("one", port, 80, "auto_correct = true")))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, _ := forward(b.state().Machines["core-01"].Forwards, "one")
	l.Close()
	b.edit(webMachine(web("one", port, 80, "auto_correct = true"), web("two", other, 81)))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, _ := forward(b.state().Machines["core-01"].Forwards, "one"); after != before || after.HostPort == port {
		t.Errorf("was %s, is %s", before, after)
	}
}

// A new forward's port that is taken between plan and binding moves on, or is
// refused with its holder.
func TestPortLostWhileRunning(t *testing.T) {
	t.Parallel()
	for _, auto := range []bool{true, false} {
		t.Run(fmt.Sprintf("auto_correct=%v", auto), func(t *testing.T) {
			t.Parallel()
			p := freePorts(t, 1)[0]
			b := newBench(t, webMachine())
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.edit(webMachine(web("web", p, 80, fmt.Sprintf("auto_correct = %v", auto))))
			var thief net.Listener
			b.fake.Before = func(_ context.Context, op providertest.Op, _ string) (err error) {
				if op == providertest.AddForward && thief == nil {
					thief, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
				}
				return err
			}
			t.Cleanup(func() { thief.Close() })
			err := b.up(t.Context())
			f, _ := forward(b.state().Machines["core-01"].Forwards, "web")
			if auto {
				if err != nil || f.HostPort == p {
					t.Errorf("web is on %d, %v", f.HostPort, err)
				}
				return
			}
			if _, ok := errors.AsType[*provider.PortError](err); !ok || !strings.Contains(hint.Of(err), "auto_correct = true") {
				t.Errorf("up: %v (%s)", err, hint.Of(err))
			}
			thief.Close()
			if err := b.up(t.Context()); err != nil {
				t.Error(err)
			}
			if live, _ := b.fake.LiveForwards(t.Context(), "core-01"); len(live) != 3 {
				t.Errorf("in force: %v", live)
			}
		})
	}
}

// The agent binds the forwards of a provider that does not, before SSH is
// waited for; a port that it cannot have moves on.
func TestAgentCarriesForwards(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	agent := b.withAgent()
	synced := 0
	b.guests.ssh = func(context.Context) error {
		agent.mu.Lock()
		defer agent.mu.Unlock()
		synced = len(agent.syncs)
		return nil
	}
	first := true
	b.fake.Before = func(_ context.Context, op providertest.Op, name string) error {
		if op == providertest.Start && first {
			first = false
			agent.refuse[b.state().Machines[name].SSH().HostPort] = true
		}
		return nil
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if synced != 2 {
		t.Errorf("%d syncs before SSH, want a refused and a good one", synced)
	}
	ms := b.state().Machines["core-01"]
	if agent.refuse[ms.SSH().HostPort] || !slices.Equal(agent.bound, ms.Forwards) {
		t.Errorf("bound %v, state %v", agent.bound, ms.Forwards)
	}
	if !b.events.moved() {
		t.Error("nobody was told that ssh moved on")
	}
	if calls := b.fake.Calls(); slices.Index(calls, "create core-01") != lastIndex(calls, "create core-01") {
		t.Errorf("created again for a port that the provider does not know: %v", calls)
	}
}

func lastIndex(list []string, want string) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i] == want {
			return i
		}
	}
	return -1
}

// An agent that died is found by up, and a failing one makes it look closer.
func TestUpNoticesADeadAgent(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	agent := b.withAgent()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	agent.syncs = nil
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"core-01"}, agent.syncs); diff != "" {
		t.Errorf("syncs (-want +got):\n%s", diff)
	}
	agent.err = errors.New("it does not start")
	err := b.up(t.Context())
	if want := "core-01: start machine: it does not start"; err == nil || err.Error() != want {
		t.Errorf("up: %v, want %s", err, want)
	}
}

// Only published ports are lost without the agent where the hypervisor
// forwards: that is said, and no failure.
func TestPublishedPortsWithoutAgent(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	b.agent = &agentFake{b: b, err: errors.New("it does not start")}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := b.events.notices(), "core-01 the agent does not forward what containers publish: it does not start"; got != want {
		t.Errorf("notices %q, want %q", got, want)
	}
}

// The agent lets go of a machine's ports before they are asked for again.
func TestReloadWithAgent(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	agent := b.withAgent()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	agent.syncs = nil
	var stopped int
	b.fake.Before = func(_ context.Context, op providertest.Op, _ string) error {
		if op == providertest.Start {
			agent.mu.Lock()
			defer agent.mu.Unlock()
			stopped = len(agent.syncs)
		}
		return nil
	}
	before := b.state().Machines["core-01"]
	e, config := b.engine()
	if err := e.Reload(t.Context(), config.Machines, config.Machines); err != nil {
		t.Fatal(err)
	}
	if stopped != 1 {
		t.Errorf("%d syncs between stop and start, want 1", stopped)
	}
	stayed(t, before, b.state().Machines["core-01"])
}
