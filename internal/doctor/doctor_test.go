package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/exports"
)

// A check that never comes back neither hangs the others nor hides them.
func TestRunWaitsForNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		start := time.Now()
		got := Run(t.Context(), []Check{
			{Name: "first", Look: func(context.Context) []Finding { return one(ok("well")) }},
			{Name: "stuck", Look: func(context.Context) []Finding { <-stuck; return one(ok("late")) }},
			{Name: "nothing", Look: func(context.Context) []Finding { return nil }},
			{Name: "slow", Look: func(ctx context.Context) []Finding {
				<-ctx.Done()
				return []Finding{{Level: Problem, Detail: "gave up"}, {Level: Info, Detail: "and said so"}}
			}},
			{Name: "patient", Patience: 5 * time.Second, Look: func(ctx context.Context) []Finding {
				<-ctx.Done()
				return one(ok("after %s", time.Since(start)))
			}},
		})
		want := []Finding{
			{"first", OK, "well", ""},
			{"stuck", Warning, "no answer within 3s", ""},
			{"slow", Problem, "gave up", ""},
			{"slow", Info, "and said so", ""},
			{"patient", OK, "after 5s", ""},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
		close(stuck)
	})
}

// An interrupt is not held up either.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		stuck := make(chan struct{})
		start := time.Now()
		Run(ctx, []Check{{Name: "stuck", Look: func(context.Context) []Finding { <-stuck; return nil }}})
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %s", took)
		}
		close(stuck)
	})
}

func TestUsable(t *testing.T) {
	t.Parallel()
	findings := []Finding{{Level: OK}, {Level: Info}, {Level: Warning}}
	if !Usable(findings) || Usable(append(findings, Finding{Level: Problem})) {
		t.Error("only problems count")
	}
}

// stub is a provider whose guests run as it says.
type stub struct {
	provider.Provider
	version string
	notice  string
	err     error // of Check
	accel   error // of Check with an accelerator
	tcg     bool  // guests are emulated
	running map[string]bool
}

func (s stub) Check(_ context.Context, n provider.Needs) (provider.Host, error) {
	if n.Accel != "" && s.accel != nil {
		return provider.Host{}, s.accel
	}
	accel := "kvm"
	if s.tcg {
		accel = "tcg"
	}
	return provider.Host{Version: s.version, Accel: accel, Notice: s.notice}, s.err
}

func (s stub) Status(_ context.Context, name string) (provider.Status, error) {
	if s.running[name] {
		return provider.Status{State: provider.Running}, nil
	}
	return provider.Status{State: provider.Stopped}, nil
}

// world is a host of which tests know everything.
type world struct {
	*Patient
	t    *testing.T
	home string
	env  map[string]string
	qm   stub
	lv   *stub
	out  string // of docker --version
}

func newWorld(t *testing.T, machineFile string) *world {
	t.Helper()
	w := &world{t: t, home: t.TempDir(), env: map[string]string{}, qm: stub{version: "7.2.22"}, out: "Docker version 28.2.2, build e6534b4"}
	dir := t.TempDir()
	p, err := project.Open(dir, project.Options{StateHome: filepath.Join(w.home, "state")})
	if err != nil {
		t.Fatal(err)
	}
	w.Patient = &Patient{
		Getenv:   func(name string) string { return w.env[name] },
		LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil },
		Runner:   w,
		Unset:    `eval "$(hostctl env --unset)"`,
		Version:  "v1",
		Images:   image.NewStore(image.Config{Dir: filepath.Join(w.home, "images")}),
		Provider: w.provider,
		Project:  p,
		Agent:    &stubAgent{err: agent.ErrNotRunning},
	}
	if machineFile != "" {
		path := filepath.Join(p.Dir(), machinefile.FileName)
		if err := os.WriteFile(path, []byte(machineFile), 0o600); err != nil {
			t.Fatal(err)
		}
		config, _, diags := machinefile.Load(path, machinefile.Options{Catalog: []machinefile.CatalogImage{{Name: "dockerhost"}, {Name: "flatcar"}}})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		w.Config = config
	}
	return w
}

func (w *world) provider(name string) (provider.Provider, error) {
	switch {
	case name == "qemu":
		return w.qm, nil
	case name == "libvirt" && w.lv != nil:
		return w.lv, nil
	}
	return nil, fmt.Errorf("no provider %q", name)
}

func (w *world) Run(_ context.Context, argv ...string) ([]byte, error) {
	if strings.Join(argv, " ") != "/usr/bin/docker --version" {
		w.t.Errorf("%q was run", argv)
	}
	return []byte(w.out), nil
}

// state records machines as made.
func (w *world) state(p *project.Project, machines map[string]project.MachineState) {
	w.t.Helper()
	unlock, err := p.Lock(w.t.Context(), "test", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for name, m := range machines {
		m.DomainID = "6f0e3f0a-5a8b-4a51-9a55-0f3f6c1a9b01"
		machines[name] = m
	}
	if err := errors.Join(p.Update(func(s *project.State) error { s.Machines = machines; return nil }), unlock()); err != nil {
		w.t.Fatal(err)
	}
}

// expect compares findings, written as lines "LEVEL DETAIL -> FIX", with want.
func expect(t *testing.T, got []Finding, want ...string) {
	t.Helper()
	var lines []string
	for _, f := range got {
		line := string(f.Level) + " " + f.Detail
		if f.Fix != "" {
			line += " -> " + f.Fix
		}
		lines = append(lines, line)
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

const oneMachine = `machine "core" {
  image = "flatcar"
  forward "web" {
    guest = 80
    host  = 8080
  }
}
`

func TestMachineFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	expect(t, w.machineFile(t.Context()), "info none here: only the host is checked -> hostctl init writes one")
	w.Mistakes = 2
	expect(t, w.machineFile(t.Context()), "problem 2 mistakes -> hostctl validate shows what is wrong")
	w = newWorld(t, oneMachine)
	expect(t, w.machineFile(t.Context()), "ok "+w.Config.Path+": 1 machine")

	w.state(w.Project, map[string]project.MachineState{"core": {Provider: "qemu"}})
	if err := os.WriteFile(filepath.Join(w.Project.StateDir(), "state.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := w.machineFile(t.Context()); len(got) != 2 || got[1].Level != Problem {
		t.Errorf("a damaged state: %v", got)
	}
	// The other checks leave it at that.
	for _, c := range w.Checks() {
		if c.Name == "libvirt" {
			continue // asks this host's
		}
		for _, f := range c.Look(t.Context()) {
			if f.Level == Problem && c.Name != "machine file" && c.Name != "host ports" && c.Name != "disk space" {
				t.Errorf("%s: %v", c.Name, f)
			}
		}
	}
}

func TestQEMU(t *testing.T) {
	t.Parallel()
	arch := runtime.GOARCH
	missing := hint.Wrap(errors.New("qemu-img: not found"), "install QEMU")
	onLibvirt := "machine \"core\" {\n  image = \"flatcar\"\n  provider = \"libvirt\"\n}\n"

	w := newWorld(t, "")
	expect(t, w.qemu(t.Context()), "ok 7.2.22, for "+arch+" guests")
	w.qm.err = missing
	expect(t, w.qemu(t.Context()), "problem qemu-img: not found -> install QEMU")
	expect(t, w.acceleration(t.Context()))
	w = newWorld(t, onLibvirt)
	w.qm.err = missing
	expect(t, w.qemu(t.Context()), `info qemu-img: not found; no machine has provider = "qemu"`)
	w = newWorld(t, onLibvirt+strings.Replace(oneMachine, "core", "other", 1))
	w.qm.err = missing
	expect(t, w.qemu(t.Context()), "problem qemu-img: not found -> install QEMU")
	w = newWorld(t, `
		image "a" {
		  source = "flatcar"
		  arch   = "arm64"
		}
		image "b" {
		  source = "flatcar"
		  arch   = "amd64"
		}
		machine "a" { image = image.a }
		machine "b" { image = image.b }
		machine "c" { image = image.b }`)
	expect(t, w.qemu(t.Context()), "ok 7.2.22, for amd64 guests", "ok 7.2.22, for arm64 guests")
}

func TestAcceleration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(oneMachine, "image", "accel = \"kvm\"\nimage", 1))
	expect(t, w.acceleration(t.Context()), "ok kvm, for "+runtime.GOARCH+" guests")
	w.qm.accel = &provider.FieldError{Field: "accel", Err: errors.New("there is none")}
	expect(t, w.acceleration(t.Context()), "ok kvm, for "+runtime.GOARCH+" guests",
		`problem machine "core": accel: there is none -> leave accel out to take the best there is`)
	w.qm.notice = "guests run under emulation"
	if got := w.acceleration(t.Context()); got[0].Level != Warning {
		t.Errorf("got %v", got[0])
	}
}

func TestLibvirt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "machine \"core\" {\n  image = \"flatcar\"\n  provider = \"libvirt\"\n}\n")
	expect(t, w.libvirt(t.Context()), `problem no provider "libvirt"`)
	w.lv = &stub{version: "9.0.0"}
	expect(t, w.libvirt(t.Context()), "ok 9.0.0, kvm for "+runtime.GOARCH+" guests")
	w.lv.notice = "no KVM"
	expect(t, w.libvirt(t.Context()), "warning 9.0.0: no KVM")
	w.lv.err = &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", fs.ErrPermission)}
	expect(t, w.libvirt(t.Context()), "problem dial unix: connect: permission denied -> sudo usermod -aG libvirt $USER, then log in again")
	w.lv.err = fmt.Errorf("ask: %w", context.DeadlineExceeded)
	expect(t, w.libvirt(t.Context()), "warning no answer in time -> look again: what was just started may need longer once")
	w.lv.err = hint.Wrap(errors.New("no pool"), "make one")
	expect(t, w.libvirt(t.Context()), "problem no pool -> make one")
}

// Asking a session's libvirtd that does not run would start it.
func TestLibvirtSession(t *testing.T) {
	t.Parallel()
	const machine = "machine \"core\" {\n  image = \"flatcar\"\n  provider = \"libvirt\"\n}\n"
	w := newWorld(t, "provider \"libvirt\" {\n  uri = \"qemu:///session\"\n}\n"+machine)
	w.lv = &stub{version: "9.0.0"}
	w.env["XDG_RUNTIME_DIR"] = t.TempDir()
	expect(t, w.libvirt(t.Context()), "info your own libvirtd does not run: machines start it")
	if err := os.Mkdir(filepath.Join(w.env["XDG_RUNTIME_DIR"], "libvirt"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", w.sessionSockets()[1])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	expect(t, w.libvirt(t.Context()), "ok 9.0.0, kvm for "+runtime.GOARCH+" guests")

	w = newWorld(t, machine)
	for uri, want := range map[string]bool{"qemu:///session": true, "qemu:///system": false} {
		w.env["LIBVIRT_DEFAULT_URI"] = uri
		if own, err := w.session(t.Context()); own != want || err != nil {
			t.Errorf("LIBVIRT_DEFAULT_URI=%s: got %t, %v", uri, own, err)
		}
	}
}

// Sockets are told apart by what keeps them from answering.
func TestDialAny(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none, dead, alive := filepath.Join(dir, "none"), filepath.Join(dir, "dead"), filepath.Join(dir, "alive")
	l, err := net.Listen("unix", alive)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	left, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()

	if path, err := dialAny(t.Context(), []string{none, alive}); path != alive || err != nil {
		t.Errorf("got %q, %v", path, err)
	}
	_, err = dialAny(t.Context(), []string{none, dead, alive})
	if got := mendLibvirt(err); got != "sudo systemctl start libvirtd" {
		t.Errorf("a dead socket: %v -> %q", err, got)
	}
	_, err = dialAny(t.Context(), []string{none})
	if got := mendLibvirt(err); !strings.HasPrefix(got, "install libvirt: ") {
		t.Errorf("no socket: %v -> %q", err, got)
	}
}

func TestImageCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	dir := w.Images.Dir()
	expect(t, w.imageCache(t.Context()), "ok 0 images, 0B, in "+dir)
	if err := os.MkdirAll(filepath.Join(dir, ".partial", "abc"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".partial", "abc", "disk"), make([]byte, 2048), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, w.imageCache(t.Context()), "ok 0 images, 0B, in "+dir,
		"info 1 download not finished, 2KiB -> hostctl up goes on with it; hostctl image prune removes what it left")

	w = newWorld(t, `
		image "gone" {
		  source = "./gone.raw"
		  family = "dockerhost"
		}
		machine "a" { image = image.gone }
		machine "b" { image = "dockerhost" }
		machine "c" { image = "dockerhost" }
		machine "d" { image = "flatcar" }
		machine "made" { image = image.gone }`)
	want := []string{
		"ok 0 images, 0B, in " + w.Images.Dir(),
		fmt.Sprintf(`problem machine "a": stat %s: no such file or directory -> source must be the path of a disk (machine.hcl line 3)`, filepath.Join(w.Project.Dir(), "gone.raw")),
		`problem machine "b": image dockerhost is not in the cache -> build it: make image, in a clone of hostctl's repository`,
	}
	expect(t, w.imageCache(t.Context()), want...)
	// Machines that exist need no image any more.
	w.state(w.Project, map[string]project.MachineState{"a": {Provider: "qemu"}, "b": {Provider: "qemu"}, "c": {Provider: "qemu"}, "made": {Provider: "qemu"}})
	expect(t, w.imageCache(t.Context()), want[0])

	// Where the cache should be is a file.
	w = newWorld(t, "")
	if err := os.WriteFile(w.Images.Dir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := w.imageCache(t.Context()); got[0].Level != Problem || !strings.HasSuffix(got[0].Detail, ": not a folder") {
		t.Errorf("got %v", got)
	}
}

// Advice to change owners is never about a folder that others use.
func TestMendAccess(t *testing.T) {
	t.Parallel()
	const elsewhere = "put the cache where you can write: XDG_CACHE_HOME"
	for _, c := range []struct {
		at   string
		err  error
		want string
	}{
		{"/home/me/.cache/hostctl/images", fs.ErrPermission, "sudo chown -R $USER /home/me/.cache/hostctl/images"},
		{"/home/me/.cache/hostctl/images", syscall.EROFS, elsewhere},
		{"/home/me", fs.ErrPermission, elsewhere},
		{"/", fs.ErrPermission, elsewhere},
	} {
		if got := mendAccess("/home/me/.cache/hostctl/images", c.at, c.err); got != c.want {
			t.Errorf("%s: %v: got %q", c.at, c.err, got)
		}
	}
}

func TestSpace(t *testing.T) {
	t.Parallel()
	const fix = "free some: hostctl image prune removes images that no machine uses"
	for free, want := range map[uint64]Finding{
		20 << 30:  {"", OK, "20GiB free for images, in /x", ""},
		1 << 30:   {"", Warning, "1GiB free for images, in /x", fix},
		256 << 20: {"", Problem, "256MiB free for images, in /x", fix},
	} {
		if got := space("images", "/x", free); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	const huge = "machine \"core\" {\n  image = \"flatcar\"\n  memory = \"900TiB\"\n}\n"
	w := newWorld(t, huge)
	got := w.memory(t.Context())
	if len(got) != 1 || got[0].Level != Problem || got[0].Fix != "choose less memory (machine.hcl line 3)" || !strings.HasPrefix(got[0].Detail, `machine "core" asks for 900TiB, and this host has `) {
		t.Errorf("got %v", got)
	}
	// What runs elsewhere needs none of this host's.
	w = newWorld(t, "provider \"libvirt\" {\n  uri = \"qemu+ssh://build.example/system\"\n}\n"+strings.Replace(huge, "image", "provider = \"libvirt\"\nimage", 1))
	if got := w.memory(t.Context()); len(got) != 1 || got[0].Level != OK {
		t.Errorf("on another computer: %v", got)
	}
	// Nor does it where only the shell, or an earlier up, says that.
	w = newWorld(t, strings.Replace(huge, "image", "provider = \"libvirt\"\nimage", 1))
	w.env["LIBVIRT_DEFAULT_URI"] = "qemu+ssh://build.example/system"
	if got := w.memory(t.Context()); len(got) != 1 || got[0].Level != OK {
		t.Errorf("on another computer, says the shell: %v", got)
	}
	// Emulation takes memory of its own.
	w = newWorld(t, "machine \"core\" {\n  count = 10000\n  image = \"flatcar\"\n  memory = \"1GiB\"\n}\n")
	w.qm.tcg = true
	if got := w.memory(t.Context()); len(got) != 1 || got[0].Level != Warning || !strings.HasSuffix(got[0].Detail, " for emulation") {
		t.Errorf("emulated: %v", got)
	}
	if got := emulatorCache(4 << 30); got != 512<<20 {
		t.Errorf("the cache on 4GiB is %v", got)
	}
	if got := emulatorCache(64 << 30); got != 1<<30 {
		t.Errorf("the cache on 64GiB is %v", got)
	}
	w = newWorld(t, "machine \"core\" {\n  count = 10000\n  image = \"flatcar\"\n  memory = \"1GiB\"\n}\n")
	if got := w.memory(t.Context()); len(got) != 1 || got[0].Level != Warning || !strings.Contains(got[0].Detail, "; 10000 machines to boot may take ") {
		t.Errorf("too many: %v", got)
	}
	w = newWorld(t, oneMachine)
	w.state(w.Project, map[string]project.MachineState{"core": {Provider: "qemu"}})
	w.qm.running = map[string]bool{"core": true}
	if got := w.memory(t.Context()); len(got) != 1 || got[0].Level != OK || !strings.HasSuffix(got[0].Detail, " free") {
		t.Errorf("running: %v", got)
	}
}

func TestHostPorts(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	file := fmt.Sprintf(`machine "core" {
  image = "flatcar"
  forward "web" {
    guest = 80
    host  = %d
  }
  forward "any" {
    guest        = 81
    host         = %[1]d
    auto_correct = true
  }
  forward "udp" {
    guest    = 80
    host     = %[1]d
    protocol = "udp"
  }
}
`, taken)
	w := newWorld(t, file)
	expect(t, w.hostPorts(t.Context()), fmt.Sprintf(`problem machine "core": forward "web": 127.0.0.1:%d is in use by doctor.test (pid %d)`+
		` -> set auto_correct = true (machine.hcl line 3) to take the next free port, or choose another`, taken, os.Getpid()))
	// The machine itself may hold them.
	held := project.MachineState{Provider: "qemu", Forwards: []network.Forward{
		{Name: "web", Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: uint16(taken)},
		{Name: "udp", Protocol: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: uint16(taken)},
	}}
	w.state(w.Project, map[string]project.MachineState{"core": held})
	w.qm.running = map[string]bool{"core": true}
	expect(t, w.hostPorts(t.Context()), "ok 3 ports of the machine file in use by its machines")
	// A port that the file wants for it now is not its own yet.
	held.Forwards[0].HostPort = 1
	w.state(w.Project, map[string]project.MachineState{"core": held})
	expect(t, w.hostPorts(t.Context()), fmt.Sprintf(`problem machine "core": forward "web": 127.0.0.1:%d is in use by doctor.test (pid %d)`+
		` -> set auto_correct = true (machine.hcl line 3) to take the next free port, or choose another`, taken, os.Getpid()))
	expect(t, newWorld(t, "machine \"core\" {\n  image = \"flatcar\"\n}\n").hostPorts(t.Context()), "ok hostctl chooses them")
	expect(t, newWorld(t, "").hostPorts(t.Context()))
	// 203.0.113.0/24 is for documentation: no host has it.
	elsewhere := newWorld(t, strings.Replace(oneMachine, "host ", "host_ip = \"203.0.113.1\"\nhost ", 1))
	if got := elsewhere.hostPorts(t.Context()); len(got) != 1 || got[0].Level != Problem || got[0].Fix != "choose a host_ip that this computer has (machine.hcl line 3)" {
		t.Errorf("got %v", got)
	}
}

func TestManyPorts(t *testing.T) {
	t.Parallel()
	var file strings.Builder
	file.WriteString("machine \"core\" {\n  image = \"flatcar\"\n")
	for i := range mostPorts + 2 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		fmt.Fprintf(&file, "forward \"f%d\" {\nguest = %d\nhost = %d\n}\n", i, i+1, l.Addr().(*net.TCPAddr).Port)
	}
	file.WriteString("}\n")
	got := newWorld(t, file.String()).hostPorts(t.Context())
	if len(got) != mostPorts+1 || got[mostPorts].Detail != "and perhaps more" {
		t.Errorf("got %v", got)
	}
}

func nic(name, cidr, addr string) project.NIC {
	return project.NIC{
		Network: name, MAC: network.MAC("id", name).String(),
		CIDR: netip.MustParsePrefix(cidr), Address: netip.MustParseAddr(addr),
	}
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	file := func(cidr string) string {
		return fmt.Sprintf("network \"hostonly\" \"dev\" {\n  cidr = %q\n}\nnetwork \"bridged\" \"lan\" {}\n", cidr)
	}
	// 198.18.0.0/15 is for benchmarks: no host has an interface there.
	const free = "198.18.8.0/24"
	w := newWorld(t, file(free))
	expect(t, w.networks(t.Context()), "ok dev 198.18.8.0/24 collides with nothing")
	expect(t, newWorld(t, "").networks(t.Context()))
	expect(t, newWorld(t, "network \"bridged\" \"lan\" {}\n").networks(t.Context()))

	other, err := project.Open(t.TempDir(), project.Options{StateHome: filepath.Join(w.home, "state")})
	if err != nil {
		t.Fatal(err)
	}
	w.state(other, map[string]project.MachineState{"core": {Provider: "qemu", NICs: []project.NIC{nic("x", "198.18.0.0/16", "198.18.0.2")}}})
	got := w.networks(t.Context())
	if len(got) != 1 || got[0].Level != Problem || got[0].Detail != `dev 198.18.8.0/24 overlaps the network "x" of the project in `+other.Dir()+" (198.18.0.0/16)" ||
		!strings.HasPrefix(got[0].Fix, `cidr = "`) || !strings.HasSuffix(got[0].Fix, `" (machine.hcl line 2)`) {
		t.Errorf("got %v", got)
	}
}

// What an interface of this host has is a problem. Loopback stands for any: a
// machine file cannot ask for its subnet.
func TestNetworksOnInterface(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.Config = &machinefile.Config{Networks: []*machinefile.Network{
		{Name: "a", Kind: machinefile.HostOnly, CIDR: netip.MustParsePrefix("127.0.0.0/24")},
		{Name: "b", Kind: machinefile.HostOnly, CIDR: netip.MustParsePrefix("127.0.1.0/24")},
	}}
	got := w.networks(t.Context())
	if len(got) != 2 || got[0].Level != Problem || got[1].Level != Problem || got[0].Fix == got[1].Fix ||
		!strings.HasPrefix(got[0].Detail, "a 127.0.0.0/24 overlaps interface lo") || !strings.HasSuffix(got[0].Detail, " (127.0.0.0/8)") {
		t.Errorf("got %v", got)
	}
}

// A network that is up is an interface of its own; a second one of that subnet
// is somebody else's.
func TestNetworkThatIsUp(t *testing.T) {
	t.Parallel()
	addr := netip.MustParsePrefix("198.18.8.0/24")
	n := &machinefile.Network{Name: "dev", Kind: machinefile.HostOnly, CIDR: addr}
	w := newWorld(t, "")
	host := []network.UsedSubnet{{Prefix: addr, By: "interface virbr9", Interface: "virbr9"}, {Prefix: netip.MustParsePrefix("198.18.0.0/16"), By: "route through tun0", Interface: "tun0"}}
	if got := w.withoutOwn(host, n); len(got) != 2 {
		t.Errorf("somebody else's: %v", got)
	}
	w.state(w.Project, map[string]project.MachineState{"core": {Provider: "qemu", NICs: []project.NIC{nic("dev", addr.String(), "198.18.8.2")}}})
	if got := w.withoutOwn(host, n); len(got) != 1 || got[0].Interface != "tun0" {
		t.Errorf("its own: %v", got)
	}
	if got := w.withoutOwn(append(host, host[0]), n); len(got) != 2 {
		t.Errorf("its own and another: %v", got)
	}
}

func TestDockerClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	expect(t, w.dockerClient(t.Context()), "ok 28.2.2, /usr/bin/docker")
	w.out = "podman-docker\nmore"
	expect(t, w.dockerClient(t.Context()), "ok podman-docker, /usr/bin/docker")
	w.LookPath = func(string) (string, error) { return "", exec.ErrNotFound }
	if got := w.dockerClient(t.Context()); len(got) != 1 || got[0].Level != Warning || got[0].Fix == "" {
		t.Errorf("got %v", got)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.43") }))
	defer engine.Close()
	alive := "tcp://" + strings.TrimPrefix(engine.URL, "http://")
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "tcp://" + closed.Addr().String()
	closed.Close()
	silent, err := net.Listen("tcp4", "127.0.0.1:0") // connects, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	mute := "tcp://" + silent.Addr().String()
	socket := filepath.Join(t.TempDir(), "docker.sock")

	const unset = ` -> eval "$(hostctl env --unset)"`
	tests := []struct {
		name string
		env  map[string]string
		made string // the address of a machine's Docker
		want []string
	}{
		{"nothing", nil, "", []string{"ok no DOCKER_ variables; hostctl env sets them"}},
		{"somebody", map[string]string{"DOCKER_HOST": alive}, "", []string{"ok DOCKER_HOST=" + alive + " answers"}},
		{"a machine", map[string]string{"DOCKER_HOST": alive}, alive, []string{"ok DOCKER_HOST=" + alive + ` answers: machine "core"`}},
		{"nobody", map[string]string{"DOCKER_HOST": dead}, "", []string{"warning DOCKER_HOST=" + dead + ": connection refused" + unset}},
		{"no answer", map[string]string{"DOCKER_HOST": mute}, "", []string{"warning DOCKER_HOST=" + mute + ": no answer within 1s" + unset}},
		{"no socket", map[string]string{"DOCKER_HOST": "unix://" + socket}, "", []string{"warning DOCKER_HOST=unix://" + socket + ": no such file or directory" + unset}},
		{"no address", map[string]string{"DOCKER_HOST": "tcp://a b"}, "", []string{"warning DOCKER_HOST=tcp://a b is no address" + unset}},
		{"another way", map[string]string{"DOCKER_HOST": "ssh://build.example"}, "", []string{"info DOCKER_HOST=ssh://build.example is not asked"}},
		{"TLS of somebody's", map[string]string{"DOCKER_HOST": mute, "DOCKER_TLS_VERIFY": "1"}, "", []string{"ok DOCKER_HOST=" + mute + " answers"}},
		{"TLS of a machine's", map[string]string{"DOCKER_HOST": alive, "DOCKER_TLS_VERIFY": "1"}, alive, []string{
			"ok DOCKER_HOST=" + alive + ` answers: machine "core"`,
			`warning DOCKER_TLS_VERIFY asks for TLS, and the port of machine "core" has none` + unset,
		}},
		{"TLS alone", map[string]string{"DOCKER_TLS_VERIFY": "1"}, "", []string{"warning DOCKER_TLS_VERIFY is set without a DOCKER_HOST" + unset}},
		{"a context", map[string]string{"DOCKER_CONTEXT": "x"}, "", []string{
			"warning DOCKER_CONTEXT=x sends the Docker client to that context -> unset DOCKER_CONTEXT, or let hostctl env do it"}},
		{"a context beside", map[string]string{"DOCKER_HOST": alive, "DOCKER_CONTEXT": "x"}, "", []string{
			"ok DOCKER_HOST=" + alive + " answers",
			"warning DOCKER_CONTEXT=x: some programs prefer it to DOCKER_HOST -> unset DOCKER_CONTEXT, or let hostctl env do it"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "")
			w.env = tt.env
			if tt.made != "" {
				addr := netip.MustParseAddrPort(strings.TrimPrefix(tt.made, "tcp://"))
				w.state(w.Project, map[string]project.MachineState{"core": {
					Provider: "qemu", Spec: project.Spec{DockerPort: 2375},
					Forwards: []network.Forward{{Name: "docker", Protocol: "tcp", HostIP: addr.Addr(), HostPort: addr.Port(), GuestPort: 2375}},
				}})
			}
			expect(t, w.environment(t.Context()), tt.want...)
		})
	}
}

// stubAgent is an agent that says what it is told to.
type stubAgent struct {
	status agent.Status
	err    error
	needed bool
}

func (s *stubAgent) Status(context.Context) (agent.Status, error) { return s.status, s.err }
func (s *stubAgent) Needed(context.Context) (bool, error)         { return s.needed, nil }

var _ Agent = (*agent.Client)(nil)

func TestAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneMachine)
	a := &stubAgent{err: agent.ErrNotRunning}
	w.Agent = a
	w.qm.running = map[string]bool{"core": true}
	expect(t, w.agent(t.Context()))
	w.state(w.Project, map[string]project.MachineState{"core": {Provider: "qemu"}})
	expect(t, w.agent(t.Context()), "info not running: no machine needs it")
	a.needed = true
	expect(t, w.agent(t.Context()), "warning not running: what containers publish is not reached, nor are forwards that the agent carries -> hostctl up")
	a.err = errors.New("no answer")
	expect(t, w.agent(t.Context()), "warning no answer -> hostctl up replaces one that does not answer")
	a.err = nil
	web := agent.Forward{Forward: network.Forward{Name: "web"}}
	a.status = agent.Status{PID: 7, Version: "v1", Machines: map[string]agent.MachineStatus{
		"core": {Forwards: []agent.Forward{web}, Published: []agent.Published{{}, {}}},
	}}
	expect(t, w.agent(t.Context()), "ok runs (pid 7): 1 forward, 2 published ports")
	web.Error = "port taken"
	a.status.Version = "v0"
	a.status.Machines["core"] = agent.MachineStatus{Forwards: []agent.Forward{web}, Error: "no SSH"}
	expect(t, w.agent(t.Context()), "ok runs (pid 7): 1 forward, 0 published ports",
		`warning machine "core": no SSH -> hostctl up core`,
		`warning machine "core": forward "web": port taken -> hostctl up core`,
		"info it is of hostctl v0, and this is v1")
	// What the agent cannot do for a machine that is down is as it should be.
	a.status.Version, w.qm.running = "v1", nil
	expect(t, w.agent(t.Context()), "ok runs (pid 7): 1 forward, 0 published ports")
}

// Doctor leaves nothing behind.
func TestChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneMachine)
	before := tree(t, w.home) + tree(t, w.Project.Dir())
	findings := Run(t.Context(), w.Checks())
	if after := tree(t, w.home) + tree(t, w.Project.Dir()); after != before {
		t.Error(cmp.Diff(before, after))
	}
	for _, f := range findings {
		if f.Check == "" || f.Detail == "" || strings.Contains(f.Detail+f.Fix, "\n") {
			t.Errorf("incomplete: %#v", f)
		}
	}
	if _, err := json.Marshal(findings); err != nil {
		t.Error(err)
	}
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		fmt.Fprintln(&b, path, info.Mode(), info.ModTime())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// stubExports is an NFS server of which tests know everything.
type stubExports struct {
	program, running, allowed error
	mistakes                  []*exports.Mistake
}

func (s stubExports) Program() (string, error)      { return "/usr/sbin/exportfs", s.program }
func (s stubExports) Running(context.Context) error { return s.running }
func (s stubExports) Allowed(context.Context) error { return s.allowed }
func (s stubExports) Mistakes(context.Context) ([]*exports.Mistake, error) {
	return s.mistakes, nil
}

func TestNFSServer(t *testing.T) {
	t.Parallel()
	const file = `
machine "core" { image = "dockerhost" }
share "code" {
  host   = "."
  guest  = "/srv/code"
  server = "system"
}`
	look := func(file string, s stubExports) []Finding {
		w := newWorld(t, file)
		w.Exports = s
		return w.nfsServer(t.Context())
	}
	expect(t, look(strings.ReplaceAll(file, "system", "embedded"), stubExports{program: exports.ErrNotInstalled}))
	expect(t, look(file, stubExports{program: hint.Wrap(exports.ErrNotInstalled, "install it")}),
		"problem the system's NFS server is not installed -> install it")
	expect(t, look(file, stubExports{}), "ok runs, for 1 folder; told by /usr/sbin/exportfs")
	expect(t, look(file, stubExports{
		running: hint.Wrap(exports.ErrNotRunning, "start it"), allowed: exports.ErrNotAllowed,
		mistakes: []*exports.Mistake{{File: "/etc/exports", Line: 3, What: "bad", Stops: true}, {File: "/etc/exports", Line: 4, What: "odd"}},
	}),
		"problem the system's NFS server does not run -> start it",
		"problem /etc/exports:3: bad -> mend that line: nothing below it is exported, and hostctl up leaves the file alone",
		"warning /etc/exports:4: odd -> mend that line",
		"info sudo asks for a password when what is exported changes -> hostctl share sudoers | sudo tee /etc/sudoers.d/hostctl")
}
