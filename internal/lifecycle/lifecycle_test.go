package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
)

// bench is a project with a fake hypervisor under it.
type bench struct {
	t         testing.TB
	dir       string
	stateHome string
	runtime   string
	fake      *providertest.Fake
	provider  provider.Provider // the fake, or what hides some of it
	agent     lifecycle.Agent
	exports   lifecycle.SystemExports
	patience  time.Duration // with folders
	yes       bool
	confirm   func(question string) (bool, error)
	choose    func(question string, options []string) (int, error)
	subnets   []network.UsedSubnet
	guests    *guests
	images    *images
	events    *events
}

func newBench(t testing.TB, machineFile string) *bench {
	t.Helper()
	b := &bench{
		t:         t,
		dir:       t.TempDir(),
		stateHome: t.TempDir(),
		runtime:   shortTempDir(t),
		fake:      &providertest.Fake{},
		guests:    &guests{},
		images:    &images{path: filepath.Join(t.TempDir(), "disk.qcow2"), arch: runtime.GOARCH},
		events:    &events{},
	}
	if err := os.WriteFile(b.images.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.provider = b.fake
	b.edit(machineFile)
	return b
}

// shortTempDir makes a directory for sockets: t.TempDir would be too long.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (b *bench) edit(machineFile string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, machinefile.FileName), []byte(machineFile), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// engine is a new one for each operation, as each command makes its own.
func (b *bench) engine() (*lifecycle.Engine, *machinefile.Config) {
	b.t.Helper()
	config, _, diags := machinefile.Load(filepath.Join(b.dir, machinefile.FileName), machinefile.Options{
		Catalog: []machinefile.CatalogImage{{Name: "dockerhost"}, {Name: "other"}},
	})
	if diags.HasErrors() {
		b.t.Fatal(diags)
	}
	p, err := project.Open(b.dir, project.Options{StateHome: b.stateHome, RuntimeDir: b.runtime})
	if err != nil {
		b.t.Fatal(err)
	}
	e := &lifecycle.Engine{
		Project:   p,
		Provider:  func(string) (provider.Provider, error) { return b.provider, nil },
		Providers: []string{"qemu"},
		Images:    b.images,
		Guests:    b.guests,
		Subnets:   func(context.Context) ([]network.UsedSubnet, error) { return b.subnets, nil },
		Libvirt:   config.Libvirt,
		Agent:     b.agent,
		Exports:   b.exports,
		Folders:   folder.Looks{Patience: b.patience},
		Yes:       b.yes,
		Reporter:  b.events,
		Command:   "hostctl test",
	}
	if b.confirm != nil {
		e.Confirm = func(_ context.Context, question string) (bool, error) { return b.confirm(question) }
	}
	if b.choose != nil {
		e.Choose = func(_ context.Context, question string, options []string) (int, error) {
			return b.choose(question, options)
		}
	}
	return e, config
}

func (b *bench) up(ctx context.Context) error {
	e, config := b.engine()
	return e.Up(ctx, config.Machines, config.Machines)
}

func (b *bench) destroy() error {
	e, _ := b.engine()
	return e.Destroy(b.t.Context(), b.names())
}

func (b *bench) state() *project.State {
	b.t.Helper()
	e, _ := b.engine()
	s, err := e.Project.Load()
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) names() []string {
	var names []string
	for name := range b.state().Machines {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// guests answers at once, unless told otherwise.
type guests struct {
	ssh, docker func(ctx context.Context) error
	exec        error

	mu     sync.Mutex
	hosts  map[string]string // what was written to /etc/hosts, by SSH address
	mounts []string          // the scripts that were run
	silent int               // times that it does not answer a command
	// sockets are the units docker-tcp.socket that were told.
	sockets []string
}

func (g *guests) WaitSSH(ctx context.Context, t sshclient.Target) error {
	if g.ssh != nil {
		return g.ssh(ctx)
	}
	return nil
}

func (g *guests) WaitDocker(ctx context.Context, _ string) error {
	if g.docker != nil {
		return g.docker(ctx)
	}
	return nil
}

func (g *guests) Exec(_ context.Context, t sshclient.Target, command string, stdin io.Reader) error {
	data, err := io.ReadAll(stdin)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.silent > 0 {
		g.silent--
		return fmt.Errorf("%w: i/o timeout", sshclient.ErrNoAnswer)
	}
	if command == cloudconfig.MountsCommand {
		g.mounts = append(g.mounts, string(data))
		return g.exec
	}
	if command == cloudconfig.DockerSocketCommand {
		g.sockets = append(g.sockets, string(data))
		return g.exec
	}
	if g.hosts == nil {
		g.hosts = map[string]string{}
	}
	g.hosts[t.Addr.String()] = string(data)
	return g.exec
}

func (g *guests) PingDocker(ctx context.Context, host string) error { return g.WaitDocker(ctx, host) }

// images has one image.
type images struct {
	path string
	arch string // of an image that is asked for without one
	err  error
}

func (i *images) Ensure(_ context.Context, ref image.Ref, _ func(image.Progress)) (*image.Image, error) {
	if i.err != nil {
		return nil, i.err
	}
	arch := ref.Arch
	if arch == "" {
		arch = i.arch
	}
	return &image.Image{
		Ref: ref, Version: "1", Arch: arch, Path: i.path, Format: "qcow2", Size: 4 << 30,
		Guest: image.Guest{
			Family: "dockerhost", IgnitionKey: "opt/com.coreos/config", IgnitionSpec: "3.3.0",
			ButaneVariant: "fcos", ButaneVersion: "1.4.0", User: "core", Home: "/home/core", NICs: image.Networkd,
		},
	}, nil
}

// events keeps what was reported.
type events struct {
	mu  sync.Mutex
	all []lifecycle.Event
}

func (e *events) Report(ev lifecycle.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

// steps returns "step: what was found" of one machine, and its last word.
func (e *events) steps(machine string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, ev := range e.all {
		if ev.Machine != machine {
			continue
		}
		switch ev.Kind {
		case lifecycle.StepDone:
			out = append(out, ev.Step)
		case lifecycle.MachineDone:
			out = append(out, "done")
		case lifecycle.MachineFailed:
			out = append(out, "failed")
		}
	}
	return out
}

func (e *events) notices() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, ev := range e.all {
		// Other tests on this computer may take a port at any time.
		if ev.Kind == lifecycle.Notice && !strings.HasPrefix(ev.Message, "plan: ") && !strings.Contains(ev.Message, movesOn) {
			out = append(out, strings.TrimSpace(ev.Machine+" "+ev.Message))
		}
	}
	return strings.Join(out, "\n")
}

const movesOn = " was taken meanwhile; "

// moved reports whether a port was said to have moved on.
func (e *events) moved() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.all, func(ev lifecycle.Event) bool { return strings.Contains(ev.Message, movesOn) })
}

// plans returns what up said it was about to do.
func (e *events) plans() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, ev := range e.all {
		if text, ok := strings.CutPrefix(ev.Message, "plan: "); ok && ev.Kind == lifecycle.Notice {
			out = append(out, text)
		}
	}
	return strings.Join(out, "\n")
}

func (e *events) clear() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = nil
}

const single = `
machine "core-01" {
  image  = "dockerhost"
  memory = "1GiB"
}
`

func TestUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"check host", "fetch image", "assign ports", "render config", "create machine",
		"start machine", "wait for SSH", "wait for Docker", "done",
	}
	if diff := cmp.Diff(want, b.events.steps("core-01")); diff != "" {
		t.Error(diff)
	}
	ms := b.state().Machines["core-01"]
	if !ms.Ready || ms.DockerHost() == "" || ms.SSH().HostPort == 0 {
		t.Errorf("state after up: %+v", ms)
	}
	d, err := b.fake.Domain("core-01")
	if err != nil {
		t.Fatal(err)
	}
	if d.Disk.Size != 20<<30 {
		t.Errorf("disk of %d bytes, want 20 GiB", d.Disk.Size)
	}
	if d.Memory != 1024 || d.ID != ms.DomainID || len(d.Ignition.Config) == 0 {
		t.Errorf("domain: %+v", d)
	}
}

// A second up only looks.
func TestUpAgainChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := tree(t, b.dir)
	calls := len(b.fake.Calls())
	b.events.clear()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, tree(t, b.dir)); diff != "" {
		t.Errorf("files changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"status core-01"}, b.fake.Calls()[calls:]); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"done"}, b.events.steps("core-01")); diff != "" {
		t.Error(diff)
	}
}

// Whichever operation of the provider fails, up goes on from there, and
// destroy leaves nothing.
func TestUpConvergesAfterAnyFailure(t *testing.T) {
	t.Parallel()
	for _, op := range []providertest.Op{providertest.Check, providertest.Create, providertest.Start, providertest.Status} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, single)
			boom := errors.New("boom")
			b.fake.FailOn(op, boom)
			if err := b.up(t.Context()); !errors.Is(err, boom) {
				t.Fatalf("up: %v, want boom", err)
			}
			if got := b.events.steps("core-01"); len(got) == 0 || got[len(got)-1] != "failed" {
				t.Errorf("events end with %v, want failed", got)
			}
			b.fake.FailOn(op, nil)
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := b.destroy(); err != nil {
				t.Fatal(err)
			}
			b.nothingLeft()
		})
	}
}

// A cancelled wait leaves the machine booting; the next up waits on.
func TestUpInterruptedWhileWaiting(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	ctx, cancel := context.WithCancel(t.Context())
	b.guests.ssh = func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	if err := b.up(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("up: %v, want context.Canceled", err)
	}
	before := b.state().Machines["core-01"]
	b.guests.ssh = nil
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := b.state().Machines["core-01"]
	if before.DomainID != after.DomainID || !slices.Equal(before.Forwards, after.Forwards) {
		t.Errorf("the machine was made anew: %+v, then %+v", before, after)
	}
}

func TestNotReadyQuotesTheSerialLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	b.guests.docker = func(ctx context.Context) error {
		if err := b.fake.Print("core-01", "ignition[321]: CRITICAL: failed to fetch\n"); err != nil {
			return err
		}
		return errors.New("connection refused")
	}
	err := b.up(t.Context())
	notReady, ok := errors.AsType[*lifecycle.NotReadyError](err)
	if !ok {
		t.Fatalf("up: %v, want *NotReadyError", err)
	}
	if want := "Docker on tcp://127.0.0.1:"; !strings.HasPrefix(notReady.Waited, want) {
		t.Errorf("waited for %q, want %q...", notReady.Waited, want)
	}
	if !strings.Contains(notReady.Detail(), "CRITICAL: failed to fetch") {
		t.Errorf("detail %q lacks the serial log", notReady.Detail())
	}
	if !strings.Contains(hint.Of(err), "hostctl logs core-01") {
		t.Errorf("hint %q", hint.Of(err))
	}
}

// A guest that powers off ends the wait at once.
func TestGuestThatStopsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	b.guests.ssh = func(ctx context.Context) error {
		if err := b.fake.Kill("core-01"); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
	err := b.up(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the guest stopped") {
		t.Fatalf("up: %v, want that the guest stopped", err)
	}
}

func TestFailedCheckCreatesNothing(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(b *bench){
		"image":  func(b *bench) { b.images.err = image.ErrChecksum },
		"memory": func(b *bench) { b.edit(strings.Replace(single, "1GiB", "900TiB", 1)) },
		"disk": func(b *bench) {
			b.edit(strings.Replace(single, `memory = "1GiB"`, `disk = "1GiB"`, 1))
		},
		"host": func(b *bench) { b.fake.FailOn(providertest.Check, errors.New("no QEMU")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, single)
			breakIt(b)
			if err := b.up(t.Context()); err == nil {
				t.Fatal("up succeeded")
			}
			b.nothingLeft()
		})
	}
}

func TestMemoryBeyondTheHost(t *testing.T) {
	t.Parallel()
	b := newBench(t, strings.Replace(single, "1GiB", "900TiB", 1))
	err := b.up(t.Context())
	config, ok := errors.AsType[*lifecycle.ConfigError](err)
	if !ok {
		t.Fatalf("up: %v, want *ConfigError", err)
	}
	d := config.Diags[0]
	if d.Subject.Start.Line != 4 || !strings.HasPrefix(d.Detail, `Machine "core-01" asks for 900TiB, and this host has `) {
		t.Errorf("line %d: %s", d.Subject.Start.Line, d.Detail)
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	l, port := listen(t)
	defer l.Close()
	file := fmt.Sprintf(`
machine "core-01" {
  image = "dockerhost"
  forward "docker" {
    guest = 2375
    host  = %d
    AUTO
  }
}
`, port)

	t.Run("refused", func(t *testing.T) {
		b := newBench(t, strings.Replace(file, "AUTO", "", 1))
		err := b.up(t.Context())
		want := fmt.Sprintf(`core-01: check host: forward "docker": 127.0.0.1:%d is in use by lifecycle.test (pid %d)`, port, os.Getpid())
		if err == nil || err.Error() != want {
			t.Errorf("up: %v\nwant %s", err, want)
		}
		if got, want := hint.Of(err), "set auto_correct = true ("+filepath.Join(b.dir, "machine.hcl")+" line 4) to take the next free port, or choose another host port"; got != want {
			t.Errorf("hint %q, want %q", got, want)
		}
		b.nothingLeft()
	})
	t.Run("corrected", func(t *testing.T) {
		b := newBench(t, strings.Replace(file, "AUTO", "auto_correct = true", 1))
		if err := b.up(t.Context()); err != nil {
			t.Fatal(err)
		}
		ms := b.state().Machines["core-01"]
		if ms.Forwards[0].HostPort <= port {
			t.Errorf("forwards %v, want a port above %d", ms.Forwards, port)
		}
		if want := fmt.Sprintf("tcp://127.0.0.1:%d", ms.Forwards[0].HostPort); ms.DockerHost() != want {
			t.Errorf("docker host %s, want %s", ms.DockerHost(), want)
		}
		if !strings.Contains(b.events.notices(), fmt.Sprintf("instead of port %d", port)) {
			t.Errorf("notices %q do not say that the port moved", b.events.notices())
		}
	})
}

// A port that is lost between choosing and binding moves on.
func TestPortLostAtStart(t *testing.T) {
	// Not in parallel: it takes a port that other tests may be counting on.
	b := newBench(t, single)
	var thief net.Listener
	b.fake.Before = func(_ context.Context, op providertest.Op, name string) error {
		if op != providertest.Start || thief != nil {
			return nil
		}
		d, err := b.fake.Domain(name)
		if err != nil {
			return err
		}
		thief, err = net.Listen("tcp", d.Forwards[0].HostAddr().String())
		return err
	}
	t.Cleanup(func() { thief.Close() })
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	ms := b.state().Machines["core-01"]
	if ms.SSH().HostAddr().String() == thief.Addr().String() {
		t.Error("the machine kept the port that was taken")
	}
	if d, _ := b.fake.Domain("core-01"); !slices.Equal(d.Forwards, ms.Forwards) {
		t.Errorf("domain has %v, state %v", d.Forwards, ms.Forwards)
	}
}

const cluster = `
machine "core" {
  count = 3
  image = "dockerhost"
}
`

func TestMachinesGetDifferentPorts(t *testing.T) {
	t.Parallel()
	b := newBench(t, cluster)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]string{}
	for _, name := range b.names() {
		ms := b.state().Machines[name]
		for _, f := range ms.Forwards {
			if other := seen[f.HostPort]; other != "" {
				t.Errorf("port %d belongs to %s and %s", f.HostPort, other, name)
			}
			seen[f.HostPort] = name
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d ports for three machines, want 6", len(seen))
	}
}

func TestOneFailingMachineDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t, cluster)
	boom := errors.New("boom")
	b.fake.Before = func(_ context.Context, op providertest.Op, name string) error {
		if op == providertest.Start && name == "core-02" {
			return boom
		}
		return nil
	}
	err := b.up(t.Context())
	if !errors.Is(err, boom) {
		t.Fatalf("up: %v", err)
	}
	for name, want := range map[string]string{"core-01": "done", "core-02": "failed", "core-03": "done"} {
		if got := b.events.steps(name); got[len(got)-1] != want {
			t.Errorf("%s: %v, want %s at the end", name, got, want)
		}
	}
}

// What changed in the file is said, and reload applies what it can.
func TestChangedMachineFile(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.edit(`
machine "core-01" {
  image  = "dockerhost"
  memory = "2GiB"
  docker {
    port = 2380
  }
}
`)
	b.events.clear()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "core-01 memory changed from 1GiB to 2GiB; hostctl up --yes applies it with a restart\n" +
		"core-01 docker port changed from 2375 to 2380; hostctl up --yes applies it by making the machine anew, without its data"
	if diff := cmp.Diff(want, b.events.notices()); diff != "" {
		t.Error(diff)
	}
	if d, _ := b.fake.Domain("core-01"); d.Memory != 1024 {
		t.Errorf("up changed the memory of a running machine to %d MiB", d.Memory)
	}

	before := b.state().Machines["core-01"]
	e, config := b.engine()
	if err := e.Reload(t.Context(), config.Machines, config.Machines); err != nil {
		t.Fatal(err)
	}
	if d, _ := b.fake.Domain("core-01"); d.Memory != 2048 {
		t.Errorf("after reload %d MiB, want 2048", d.Memory)
	}
	after := b.state().Machines["core-01"]
	stayed(t, before, after)
	if after.Spec.DockerPort != 2375 {
		t.Errorf("reload told a guest that listens on 2375 to be at %d", after.Spec.DockerPort)
	}
	if after.DomainID != before.DomainID {
		t.Error("reload made a new machine")
	}
}

func TestHaltAndUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := b.state().Machines["core-01"]
	for range 2 { // the second finds it stopped
		e, _ := b.engine()
		if err := e.Halt(t.Context(), []string{"core-01"}); err != nil {
			t.Fatal(err)
		}
	}
	if s, _ := b.fake.Status(t.Context(), "core-01"); s.State != provider.Stopped {
		t.Errorf("state %s after halt", s.State)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := b.state().Machines["core-01"]
	stayed(t, before, after)
}

func TestHaltAndDestroyOfNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	e, _ := b.engine()
	if err := e.Halt(t.Context(), []string{"core-01"}); err != nil {
		t.Error(err)
	}
	if err := e.Destroy(t.Context(), []string{"core-01"}); err != nil {
		t.Error(err)
	}
	b.nothingLeft()
}

func TestStatus(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, _ := b.engine()
	got, err := e.Status(t.Context(), []lifecycle.Machine{
		{Name: "core-01", Declared: true},
		{Name: "core-02", Provider: "qemu", Image: "dockerhost", Declared: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	ms := b.state().Machines["core-01"]
	if s := got[0]; s.State != provider.Running || s.DockerHost != ms.DockerHost() || s.SSH.User != "core" || s.SSH.Port != ms.SSH().HostPort || len(s.Forwards) != 2 {
		t.Errorf("running machine: %+v", s)
	}
	if s := got[1]; s.State != lifecycle.NotCreated || s.SSH != nil || s.DockerHost != "" || s.Forwards == nil {
		t.Errorf("machine that was not made: %+v", s)
	}
}

func TestSecondUpWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.fake.Before = func(_ context.Context, op providertest.Op, _ string) error {
		if op == providertest.Create {
			once.Do(func() {
				close(entered)
				<-leave
			})
		}
		return nil
	}
	first := make(chan error, 1)
	go func() { first <- b.up(context.Background()) }()
	<-entered

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := b.up(ctx)
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, project.ErrLocked) {
		t.Errorf("second up: %v, want that it waited", err)
	}
	if want := fmt.Sprintf("waiting for hostctl test (pid %d", os.Getpid()); !strings.Contains(b.events.notices(), want) {
		t.Errorf("notices %q lack %q", b.events.notices(), want)
	}
	close(leave)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// An up that waits for its guest keeps nobody from ending it.
func TestHaltAndDestroyWhileUpWaits(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		command func(*lifecycle.Engine, context.Context, []string) error
		said    string
	}{
		"halt":    {(*lifecycle.Engine).Halt, "the guest stopped"},
		"destroy": {(*lifecycle.Engine).Destroy, "the machine was destroyed meanwhile"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, single)
			waits := make(chan struct{})
			b.guests.docker = func(ctx context.Context) error {
				close(waits)
				<-ctx.Done()
				return ctx.Err()
			}
			up := make(chan error, 1)
			go func() { up <- b.up(context.Background()) }()
			<-waits
			e, _ := b.engine()
			if err := end.command(e, t.Context(), []string{"core-01"}); err != nil {
				t.Fatal(err)
			}
			if err := <-up; err == nil || !strings.Contains(err.Error(), end.said) {
				t.Errorf("up: %v, want %q", err, end.said)
			}
			if name == "destroy" {
				b.nothingLeft()
			}
		})
	}
}

// Without its state file a machine is neither taken over nor left behind.
func TestLostState(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.dir, ".hostctl", "state.json")); err != nil {
		t.Fatal(err)
	}
	err := b.up(t.Context())
	if want := "core-01: assign ports: there is a machine of this name that the project's state does not know"; err == nil || err.Error() != want {
		t.Errorf("up: %v\nwant %s", err, want)
	}
	if err := b.destroy(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.fake.Domain("core-01"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("destroy left the domain: %v", err)
	}
	b.nothingLeft()
}

// Where nothing can be kept, nothing is downloaded.
func TestProjectThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root writes everywhere; the scripts of cmd/hostctl try it as somebody else")
	}
	b := newBench(t, single)
	if err := os.Chmod(b.dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := b.up(t.Context()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("up: %v, want a permission error", err)
	}
	if got := b.events.steps("core-01"); len(got) > 0 {
		t.Errorf("steps before the refusal: %v", got)
	}
}

// A machine whose neighbour fails its checks is not called up.
func TestSkippedMachineFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, single+strings.Replace(strings.Replace(single, "core-01", "core-02", 1), "1GiB", "900TiB", 1))
	if err := b.up(t.Context()); err == nil || strings.Contains(err.Error(), "core-01") {
		t.Errorf("up: %v, want an error about core-02 alone", err)
	}
	for _, name := range []string{"core-01", "core-02"} {
		if got := b.events.steps(name); len(got) == 0 || got[len(got)-1] != "failed" {
			t.Errorf("%s ends with %v, want failed", name, got)
		}
	}
}

// stayed fails when a forward moved although its port is free. The fake holds
// no ports, so that other tests on this computer may take one meanwhile.
func stayed(t *testing.T, before, after project.MachineState) {
	t.Helper()
	for i, f := range before.Forwards {
		if after.Forwards[i] == f {
			continue
		}
		l, err := net.Listen("tcp", f.HostAddr().String())
		if err == nil {
			t.Errorf("%s moved to %s, and its port is free", f, after.Forwards[i])
			l.Close()
		}
	}
}

// nothingLeft fails when anything but the machine file is left behind.
func (b *bench) nothingLeft() {
	b.t.Helper()
	if diff := cmp.Diff([]string{".", machinefile.FileName}, names(b.t, b.dir)); diff != "" {
		b.t.Errorf("project directory (-want +got):\n%s", diff)
	}
	entries, err := project.NewIndex(b.stateHome).List()
	if err != nil || len(entries) > 0 {
		b.t.Errorf("index: %v, %v", entries, err)
	}
	if left, err := os.ReadDir(b.runtime); err != nil || len(left) > 0 {
		b.t.Errorf("run directory: %v, %v", left, err)
	}
	if left, err := b.fake.Networks(context.Background()); err != nil || len(left) > 0 {
		b.t.Errorf("networks: %v, %v", left, err)
	}
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		out = append(out, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tree returns every file's modification time and content.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range names(t, dir) {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = info.ModTime().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			out[name] += " " + string(data)
		}
	}
	return out
}

func listen(t *testing.T) (net.Listener, uint16) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l, uint16(l.Addr().(*net.TCPAddr).Port)
}

// A guest that had to be switched off is down, and the user knows how.
func TestHaltByForce(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.fake.FailOn(providertest.Stop, &provider.ForcedError{Err: errors.New("it did not react for 1m0s")})
	e, _ := b.engine()
	if err := e.Halt(t.Context(), []string{"core-01"}); err != nil {
		t.Fatal(err)
	}
	want := "core-01 the guest was powered off: it did not react for 1m0s; what it had not written to its disk is lost"
	if got := b.events.notices(); got != want {
		t.Errorf("notices %q, want %q", got, want)
	}
}

// up in a moved project registers its new place, also when nothing else is
// left to do.
func TestUpInMovedProject(t *testing.T) {
	t.Parallel()
	b := newBench(t, webMachine(shareBlock("code", "create = true")))
	b.withServing()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(b.dir, moved); err != nil {
		t.Fatal(err)
	}
	b.dir = moved
	if p := b.plan()[0]; p.Action != lifecycle.NoAction || len(p.Changes) > 0 {
		t.Errorf("plan %+v", p)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := project.NewIndex(b.stateHome).List()
	if err != nil || len(entries) != 1 || entries[0].Dir != moved || entries[0].Stale != "" {
		t.Errorf("index %v, %v; want one entry for %s", entries, err, moved)
	}
	// Shut down and booted anew, it knows its shares as well.
	e, _ := b.engine()
	if err := e.Halt(t.Context(), b.names()); err != nil {
		t.Fatal(err)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ms := b.state().Machines["core-01"]; ms.Mounted[0].Host != filepath.Join(moved, "code") {
		t.Errorf("shares %+v", ms.Mounted)
	}
	for _, script := range b.guests.mounts[1:] {
		if script != b.guests.mounts[0] {
			t.Errorf("the guest is told of other mounts:\n%s", script)
		}
	}
}
