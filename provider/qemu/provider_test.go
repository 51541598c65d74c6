package qemu_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/qemu"
)

// forced fails unless Stop had to power the guest off.
func forced(t testing.TB, err error) {
	t.Helper()
	if _, ok := errors.AsType[*provider.ForcedError](err); !ok {
		t.Fatalf("Stop: %v, want *provider.ForcedError", err)
	}
}

// stopped fails unless Stop has done its work: the suite's guest hears the
// power button once it has booted.
func stopped(t testing.TB, err error) {
	t.Helper()
	if _, ok := errors.AsType[*provider.ForcedError](err); !ok {
		must(t, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// remove deletes the domain at the test's end and looks for what is left.
func remove(t *testing.T, p place, name string) {
	t.Helper()
	t.Cleanup(func() {
		if err := p.provider(0).Delete(context.WithoutCancel(t.Context()), name); err != nil {
			t.Error(err)
		}
		for _, left := range leftovers(t, p) {
			t.Errorf("left behind: %s", left)
		}
	})
}

func console(t *testing.T, p *qemu.Provider, name string) string {
	t.Helper()
	r, err := p.Console(t.Context(), name)
	must(t, err)
	defer r.Close()
	data, err := io.ReadAll(r)
	must(t, err)
	return string(data)
}

// awaitConsole waits until the guest has said so.
func awaitConsole(t *testing.T, p *qemu.Provider, name, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, wait.Until(ctx, 20*time.Millisecond, func(context.Context) error {
		if out := console(t, p, name); !strings.Contains(out, text) {
			return fmt.Errorf("the console has %q, not %q", out, text)
		}
		return nil
	}))
}

func TestStopPressesThePowerButton(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(time.Minute)
	must(t, p.Create(t.Context(), newDomain(t, "core")))
	must(t, p.Start(t.Context(), "core"))
	awaitConsole(t, p, "core", "hello")
	began := time.Now()
	must(t, p.Stop(t.Context(), "core"))
	if out := console(t, p, "core"); !strings.Contains(out, "bye") {
		t.Errorf("the guest had no time to say bye: %q", out)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a polite guest took %s to stop", took)
	}
	// The next start begins a new log and keeps this one.
	must(t, p.Start(t.Context(), "core"))
	old, err := os.ReadFile(filepath.Join(at.root, "core", "serial.log.1"))
	must(t, err)
	if !strings.Contains(string(old), "bye") {
		t.Errorf("serial.log.1 is %q", old)
	}
}

// A guest that is still in its firmware does not hear the power button; Stop
// presses again.
func TestStopWhileBooting(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(time.Minute)
	must(t, p.Create(t.Context(), newDomain(t, "core")))
	must(t, p.Start(t.Context(), "core"))
	must(t, p.Stop(t.Context(), "core"))
	if out := console(t, p, "core"); !strings.Contains(out, "bye") {
		t.Errorf("the guest was not stopped by its power button: %q", out)
	}
}

// QEMU pauses a guest whose disk it cannot write because the host's is full.
func TestStartResumesAPausedGuest(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(time.Minute)
	must(t, p.Create(t.Context(), newDomain(t, "core")))
	must(t, p.Start(t.Context(), "core"))
	awaitConsole(t, p, "core", "hello")
	pause(t, at)
	must(t, p.Start(t.Context(), "core"))
	must(t, p.Stop(t.Context(), "core"))
	if out := console(t, p, "core"); !strings.Contains(out, "bye") {
		t.Errorf("the guest did not go on: %q", out)
	}
}

// pause pauses the guest of the only domain that runs in a place.
func pause(t *testing.T, at place) {
	t.Helper()
	sockets, err := filepath.Glob(filepath.Join(at.run, "*.qmp"))
	must(t, err)
	if len(sockets) != 1 {
		t.Fatalf("sockets: %v", sockets)
	}
	conn, err := net.Dial("unix", sockets[0])
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, `{"execute": "qmp_capabilities"} {"execute": "stop"} {"execute": "query-status", "id": "last"}`)
	must(t, err)
	in := bufio.NewScanner(conn)
	for in.Scan() {
		if line := in.Text(); strings.Contains(line, `"last"`) {
			if !strings.Contains(line, `"paused"`) {
				t.Fatal(line)
			}
			return
		}
	}
	t.Fatalf("the monitor hung up: %v", in.Err())
}

func TestStopGivesUpOnDeafGuests(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(200 * time.Millisecond)
	d := newDomain(t, "core")
	must(t, os.WriteFile(d.Disk.Base, make([]byte, 1<<20), 0o600)) // nothing to boot
	must(t, p.Create(t.Context(), d))
	must(t, p.Start(t.Context(), "core"))
	began := time.Now()
	forced(t, p.Stop(t.Context(), "core"))
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("powered off after %s, before the grace period had passed", took)
	}
}

// A QEMU that hangs (stopped here) answers no monitor: Start says which process that
// is, and Stop ends it, as Start advises.
func TestStartHungQEMU(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(time.Second)
	d := newDomain(t, "core")
	must(t, p.Create(t.Context(), d))
	must(t, p.Start(t.Context(), "core"))
	pid := processes(t, d.ID)[0]
	freeze(t, pid)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := p.Start(ctx, "core")
	if want := fmt.Sprintf("process %d: QEMU does not answer (waited ", pid); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Start() error = %v, want %s", err, want)
	}
	if advice := hint.Of(err); !strings.Contains(advice, "hostctl halt core ends it") {
		t.Errorf("hint %q", advice)
	}
	forced(t, p.Stop(t.Context(), "core"))
}

// A QEMU that hangs (stopped here) answers no monitor and is killed.
func TestDeleteHungQEMU(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	d := newDomain(t, "core")
	must(t, p.Create(t.Context(), d))
	must(t, p.Start(t.Context(), "core"))
	freeze(t, processes(t, d.ID)[0])
	must(t, p.Delete(t.Context(), "core"))
}

func TestOddPaths(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	at.root = filepath.Join(at.root, "my projects, 1=2: größe 数", strings.Repeat("deep/", 40), "domains")
	remove(t, at, "core")
	p := at.provider(0)
	d := newDomain(t, "core")
	odd := filepath.Join(t.TempDir(), "images, café: 100%")
	must(t, os.Mkdir(odd, 0o700))
	must(t, os.Rename(d.Disk.Base, filepath.Join(odd, "b,ase.raw")))
	d.Disk.Base = filepath.Join(odd, "b,ase.raw")
	must(t, p.Create(t.Context(), d))
	must(t, p.Create(t.Context(), d)) // the overlay must know its base by the same name
	must(t, p.Start(t.Context(), "core"))
	awaitConsole(t, p, "core", "hello")
}

func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	must(t, p.Create(t.Context(), newDomain(t, "core")))
	must(t, p.Start(t.Context(), "core"))
	must(t, filepath.WalkDir(at.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == at.root {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}))
}

// A process that got the number of a dead QEMU is nobody's guest, and nobody
// ends it.
func TestReusedPID(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(200 * time.Millisecond)
	must(t, p.Create(t.Context(), newDomain(t, "core")))

	stranger := exec.Command("sleep", "600")
	must(t, stranger.Start())
	ended := make(chan error, 1)
	go func() { ended <- stranger.Wait() }()
	t.Cleanup(func() {
		stranger.Process.Kill() // it may have been killed, which fails the test below
		<-ended
	})
	other := newDomain(t, "other")
	remove(t, at, "other")
	must(t, p.Create(t.Context(), other))
	must(t, p.Start(t.Context(), "other"))

	for _, pid := range []int{stranger.Process.Pid, processes(t, other.ID)[0], os.Getpid(), 1, 1 << 30} {
		must(t, os.WriteFile(filepath.Join(at.root, "core", "qemu.pid"), []byte(strconv.Itoa(pid)+"\n"), 0o600))
		st, err := p.Status(t.Context(), "core")
		must(t, err)
		if st.State != provider.Stopped {
			t.Errorf("pid %d: %s", pid, st.State)
		}
		must(t, p.Stop(t.Context(), "core"))
	}
	must(t, p.Start(t.Context(), "core"))
	must(t, p.Delete(t.Context(), "core"))
	select {
	case err := <-ended:
		t.Fatalf("a stranger was killed: %v", err)
	default:
	}
	if st, err := p.Status(t.Context(), "other"); err != nil || st.State != provider.Running {
		t.Errorf("the other domain: %v, %v", st.State, err)
	}
}

// Somebody removed the pid file: the guest is found all the same, not started
// a second time.
func TestLostPIDFile(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(200 * time.Millisecond)
	d := newDomain(t, "core")
	must(t, p.Create(t.Context(), d))
	must(t, p.Start(t.Context(), "core"))
	pids := processes(t, d.ID)
	must(t, os.Remove(filepath.Join(at.root, "core", "qemu.pid")))
	must(t, p.Start(t.Context(), "core"))
	if now := processes(t, d.ID); len(now) != 1 || now[0] != pids[0] {
		t.Errorf("processes %v became %v", pids, now)
	}
	if st, err := p.Status(t.Context(), "core"); err != nil || st.State != provider.Running {
		t.Errorf("status: %v, %v", st.State, err)
	}
	must(t, os.Remove(filepath.Join(at.root, "core", "qemu.pid")))
	stopped(t, p.Stop(t.Context(), "core"))
	if now := processes(t, d.ID); len(now) != 0 {
		t.Errorf("processes %v survived Stop", now)
	}
}

func TestDeleteWithDamagedDomainFile(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	for name, content := range map[string]string{"empty": "", "half": `{"version": 1, "dom`, "newer": `{"version": 2}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newPlace(t)
			remove(t, at, "core")
			p := at.provider(0)
			d := newDomain(t, "core")
			must(t, p.Create(t.Context(), d))
			must(t, p.Start(t.Context(), "core"))
			file := filepath.Join(at.root, "core", "domain.json")
			must(t, os.WriteFile(file, []byte(content), 0o600))
			_, err := p.Status(t.Context(), "core")
			if err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("status: %v", err)
			}
			must(t, p.Delete(t.Context(), "core"))
			if left := processes(t, d.ID); len(left) != 0 {
				t.Errorf("processes %v are left", left)
			}
		})
	}
}

// starterEnv makes TestStarter start the domain "core" at a place, so that
// another test can kill it meanwhile.
const starterEnv = "HOSTCTL_TEST_STARTER"

func TestStarter(t *testing.T) {
	spec := os.Getenv(starterEnv)
	if spec == "" {
		return // run by TestKilledStarter only
	}
	root, runDir, _ := strings.Cut(spec, "\n")
	must(t, place{root: root, run: runDir}.provider(0).Start(context.Background(), "core"))
}

// Start is killed at any moment: the next Start ends with one QEMU, and Delete
// with none.
func TestKilledStarter(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	for after := time.Duration(0); after < 150*time.Millisecond; after += 7 * time.Millisecond {
		d := newDomain(t, "core")
		must(t, p.Create(t.Context(), d))
		starter := exec.Command(os.Args[0], "-test.run=^TestStarter$")
		starter.Env = append(os.Environ(), starterEnv+"="+at.root+"\n"+at.run)
		must(t, starter.Start())
		timer := time.NewTimer(after)
		<-timer.C
		must(t, starter.Process.Kill())
		if err := starter.Wait(); err == nil {
			t.Log("the starter was done before it was killed")
		}
		if after%2 == 0 { // both with a Start between and without
			must(t, p.Start(t.Context(), "core"))
			awaitProcesses(t, d.ID, 1)
		}
		must(t, p.Delete(t.Context(), "core"))
		awaitProcesses(t, d.ID, 0)
	}
}

// awaitProcesses waits until the domain has n QEMUs: that of a killed starter may get
// its turn late, and ends by itself.
func awaitProcesses(t *testing.T, id string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, wait.Until(ctx, 20*time.Millisecond, func(context.Context) error {
		if pids := processes(t, id); len(pids) != n {
			return fmt.Errorf("processes %v, not %d", pids, n)
		}
		return nil
	}))
}

// The guest outlives the process that started it, and the end of its session.
func TestGuestOutlivesItsStarter(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(time.Minute)
	must(t, p.Create(t.Context(), newDomain(t, "core")))
	starter := exec.Command(os.Args[0], "-test.run=^TestStarter$")
	starter.Env = append(os.Environ(), starterEnv+"="+at.root+"\n"+at.run)
	out, err := starter.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	awaitConsole(t, p, "core", "hello")
	if st, err := p.Status(t.Context(), "core"); err != nil || st.State != provider.Running || st.Accel != "tcg" {
		t.Errorf("status: %+v, %v", st, err)
	}
	must(t, p.Stop(t.Context(), "core"))
	if out := console(t, p, "core"); !strings.Contains(out, "bye") {
		t.Errorf("console: %q", out)
	}
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	d := newDomain(t, "core")
	disk := filepath.Join(at.root, "core", "disk.qcow2")
	must(t, os.MkdirAll(filepath.Dir(disk), 0o700))
	must(t, os.WriteFile(disk+".new", []byte("half an overlay"), 0o600)) // of a killed Create
	must(t, p.Create(t.Context(), d))
	if size := virtualSize(t, disk); size != 1<<20 {
		t.Errorf("size is %d, want the base's", size)
	}
	must(t, exec.Command("qemu-io", "-c", "write -P 7 0 64k", disk).Run())

	d.Disk.Size = 8 << 20
	must(t, p.Create(t.Context(), d))
	if size := virtualSize(t, disk); size != 8<<20 {
		t.Errorf("size is %d after growing", size)
	}
	out, err := exec.Command("qemu-io", "-c", "read -P 7 0 64k", disk).CombinedOutput()
	if err != nil || strings.Contains(string(out), "verification failed") {
		t.Errorf("the overlay was not kept: %v, %s", err, out)
	}

	reject(t, p, with(d, func(d *provider.Domain) { d.Disk.Size = 4 << 20 }),
		"disk", "disk: the machine's disk has 8388608 bytes and cannot shrink to 4194304")
	reject(t, p, with(d, func(d *provider.Domain) { d.Disk.Size = 1 << 19 }),
		"disk", "disk: 524288 bytes are less than the image's 1048576")
	other := newDomain(t, "core").Disk.Base
	reject(t, p, with(d, func(d *provider.Domain) { d.Disk.Base = other }),
		"image", fmt.Sprintf("image: the machine's disk was made from %s, not %s", d.Disk.Base, other))
	chained := filepath.Join(t.TempDir(), "chained.qcow2")
	must(t, exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/hostname", chained, "1M").Run())
	reject(t, p, with(d, func(d *provider.Domain) { d.Disk.Base, d.Disk.BaseFormat = chained, "qcow2" }),
		"image", "image: "+chained+" refers to another file: /etc/hostname")
	reject(t, p, with(d, func(d *provider.Domain) { d.Disk.BaseFormat = "qcow2" }), // it is raw
		"image", "image: qemu-img: Could not open '"+d.Disk.Base+"': Image is not in qcow2 format")

	d.ID = newDomain(t, "core").ID
	if err := p.Create(t.Context(), d); err == nil || !strings.HasPrefix(err.Error(), `domain "core" already exists with id `) {
		t.Errorf("another id: %v", err)
	}
}

func virtualSize(t *testing.T, disk string) uint64 {
	t.Helper()
	out, err := exec.Command("qemu-img", "info", "--output=json", disk).Output()
	must(t, err)
	var info struct {
		Size uint64 `json:"virtual-size"`
	}
	must(t, json.Unmarshal(out, &info))
	return info.Size
}

func with(d provider.Domain, change func(*provider.Domain)) provider.Domain {
	change(&d)
	return d
}

func reject(t *testing.T, p *qemu.Provider, d provider.Domain, field, text string) {
	t.Helper()
	err := p.Create(t.Context(), d)
	f, ok := errors.AsType[*provider.FieldError](err)
	if !ok || f.Field != field || err.Error() != text {
		t.Errorf("got %v, want %s", err, text)
	}
}

// Values that QEMU cannot take are refused before anything is written, also
// where there is no QEMU.
func TestCreateRejects(t *testing.T) {
	t.Parallel()
	at := newPlace(t)
	p := at.provider(0)
	d := newDomain(t, "core")
	fw := network.Forward{Name: "docker", Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 2375, GuestPort: 2375}
	forward := func(change func(*network.Forward)) provider.Domain {
		f := fw
		change(&f)
		return with(d, func(d *provider.Domain) { d.Forwards = []network.Forward{f} })
	}
	reject(t, p, with(d, func(d *provider.Domain) { d.CPUs = 0 }), "cpus", "cpus: 0 is not between 1 and 255")
	reject(t, p, with(d, func(d *provider.Domain) { d.CPUs = 256 }), "cpus", "cpus: 256 is not between 1 and 255")
	reject(t, p, with(d, func(d *provider.Domain) { d.Memory = 0 }), "memory", "memory: 0 is not an amount of memory")
	reject(t, p, with(d, func(d *provider.Domain) { d.Arch = "riscv64" }), "image", `image: architecture "riscv64" is not amd64 or arm64`)
	reject(t, p, forward(func(f *network.Forward) { f.Protocol = "sctp" }), "protocol", `forward "docker": protocol: "sctp" is not tcp or udp`)
	reject(t, p, forward(func(f *network.Forward) { f.HostIP = netip.IPv6Loopback() }), "host_ip",
		`forward "docker": host_ip: QEMU's user network forwards from IPv4 addresses only, not from ::1`)
	reject(t, p, forward(func(f *network.Forward) { f.HostPort = 0 }), "host", `forward "docker": host: port 0 is not a port`)
	reject(t, p, with(forward(func(*network.Forward) {}), func(d *provider.Domain) { d.NoNAT = true }), "nat",
		`nat: forward "docker" needs it: QEMU forwards on the NAT network only`)
	reject(t, p, forward(func(f *network.Forward) { f.GuestPort = 0 }), "guest", `forward "docker": guest: port 0 is not a port`)

	err := p.Create(t.Context(), with(d, func(d *provider.Domain) { d.Memory = 1 << 40 }))
	if f, ok := errors.AsType[*provider.FieldError](err); !ok || f.Field != "memory" || !strings.Contains(err.Error(), "is more than this host's") {
		t.Errorf("memory beyond the host's: %v", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../a"} {
		err := p.Create(t.Context(), with(d, func(d *provider.Domain) { d.Name = name }))
		if want := fmt.Sprintf("domain name %q is not a file name", name); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if left := leftovers(t, at); len(left) != 0 {
		t.Errorf("refused domains left %v", left)
	}
}

func TestStartNamesThePort(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	l, err := net.Listen("tcp", "0.0.0.0:0") // holds the port on 127.0.0.1 too
	must(t, err)
	defer l.Close()
	d := newDomain(t, "core")
	d.Forwards = []network.Forward{{Name: "docker", Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"),
		HostPort: l.Addr().(*net.TCPAddr).AddrPort().Port(), GuestPort: 2375}}
	must(t, p.Create(t.Context(), d))
	err = p.Start(t.Context(), "core")
	want := fmt.Sprintf(`forward "docker": host port %s is in use by qemu.test (pid %d)`, d.Forwards[0].HostAddr(), os.Getpid())
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}

	// 203.0.113.0/24 is for documentation: no host has it.
	d.Forwards[0].HostIP = netip.MustParseAddr("203.0.113.1")
	must(t, p.Create(t.Context(), d))
	err = p.Start(t.Context(), "core")
	if f, ok := errors.AsType[*provider.FieldError](err); !ok || f.Field != "host_ip" || f.Forward != "docker" {
		t.Errorf("a foreign address: %v", err)
	}
}

func TestStartWithoutItsDisks(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	d := newDomain(t, "core")
	must(t, p.Create(t.Context(), d))

	must(t, os.Remove(filepath.Join(at.root, "core", "disk.qcow2")))
	err := p.Start(t.Context(), "core")
	const want = "qemu ended: Could not open 'disk.qcow2': No such file or directory"
	if err == nil || err.Error() != want || hint.Of(err) != "all it said is in "+filepath.Join(at.root, "core", "qemu.log") {
		t.Errorf("without the overlay: %v (%s), want %s", err, hint.Of(err), want)
	}

	must(t, os.Remove(d.Disk.Base))
	err = p.Start(t.Context(), "core")
	if f, ok := errors.AsType[*provider.FieldError](err); !ok || f.Field != "image" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the base: %v", err)
	}
}

func TestStartRefusesABusyDisk(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(0)
	must(t, p.Create(t.Context(), newDomain(t, "core")))
	// Some other program has the disk open for writing.
	holder := exec.Command("qemu-io", filepath.Join(at.root, "core", "disk.qcow2"))
	stdin, err := holder.StdinPipe()
	must(t, err)
	stdout, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	_, err = stdout.Read(make([]byte, 1)) // its prompt: the disk is open
	must(t, err)
	err = p.Start(t.Context(), "core")
	if err == nil || !strings.HasPrefix(err.Error(), "another process has the machine's disk open: ") {
		t.Errorf("got %v", err)
	}
	must(t, stdin.Close())
	must(t, holder.Wait())
	must(t, p.Start(t.Context(), "core"))
}

func TestMissingPrograms(t *testing.T) {
	t.Parallel()
	at := newPlace(t)
	for _, missing := range []string{"qemu-img", "qemu-system-"} {
		p := qemu.New(qemu.Config{Root: at.root, RunDir: at.runDir, LookPath: func(file string) (string, error) {
			if strings.HasPrefix(file, missing) || filepath.IsAbs(file) {
				return "", &exec.Error{Name: file, Err: exec.ErrNotFound}
			}
			return "/usr/bin/" + file, nil
		}})
		_, err := p.Check(t.Context(), provider.Needs{Arch: "amd64"})
		if !errors.Is(err, exec.ErrNotFound) || !strings.HasPrefix(err.Error(), missing) ||
			!strings.HasSuffix(err.Error(), ": executable file not found in $PATH") || !strings.HasPrefix(hint.Of(err), "install QEMU: ") {
			t.Errorf("got %v (%s)", err, hint.Of(err))
		}
	}
}

func TestSocketPathTooLong(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	p := qemu.New(qemu.Config{Root: at.root, RunDir: func() (string, error) { return "/" + strings.Repeat("x", 90), nil }})
	must(t, p.Create(t.Context(), newDomain(t, "core")))
	err := p.Start(t.Context(), "core")
	if want := "socket directory /" + strings.Repeat("x", 90) + ": path is 9 bytes too long"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	must(t, p.Delete(t.Context(), "core"))
}

// The directory of the sockets is gone (a session's ends with the session):
// the guest cannot be asked any more, but it can be found and ended.
func TestLostSocket(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	p := at.provider(200 * time.Millisecond)
	d := newDomain(t, "core")
	must(t, p.Create(t.Context(), d))
	must(t, p.Start(t.Context(), "core"))
	must(t, os.RemoveAll(at.run))
	if st, err := p.Status(t.Context(), "core"); err != nil || st.State != provider.Running {
		t.Errorf("status: %v, %v", st.State, err)
	}
	forced(t, p.Stop(t.Context(), "core"))
	log, err := os.ReadFile(filepath.Join(at.root, "core", "qemu.log"))
	must(t, err)
	if !strings.Contains(string(log), "terminating on signal 15") {
		t.Errorf("QEMU had no time to write its disk: %q", log)
	}
}

func BenchmarkStatus(b *testing.B) {
	if !wanted() {
		b.Skip("boots QEMU: set HOSTCTL_TEST_PROVIDERS=qemu")
	}
	at := newPlace(b)
	p := at.provider(0)
	must(b, p.Create(b.Context(), newDomain(b, "core")))
	must(b, p.Start(b.Context(), "core"))
	b.Cleanup(func() { must(b, p.Delete(context.WithoutCancel(b.Context()), "core")) })
	for b.Loop() {
		if st, err := p.Status(b.Context(), "core"); err != nil || st.State != provider.Running {
			b.Fatal(st.State, err)
		}
	}
}

// An overlay that no guest has used may be of yesterday's image: an
// interrupted Create is begun anew. One that was used is never thrown away.
func TestCreateAfterInterruptedCreate(t *testing.T) {
	t.Parallel()
	at := newPlace(t)
	p := at.provider(0)
	d := newDomain(t, "core")
	must(t, p.Create(t.Context(), d))
	record := filepath.Join(at.root, "core", "domain.json")
	must(t, os.Remove(record))

	other := newDomain(t, "core")
	must(t, p.Create(t.Context(), other))
	must(t, os.Remove(record))
	must(t, os.WriteFile(filepath.Join(at.root, "core", "serial.log"), []byte("it ran\n"), 0o600))
	err := p.Create(t.Context(), newDomain(t, "core"))
	if err == nil || !strings.HasSuffix(err.Error(), "domain.json is gone, and the disk beside it has been used") {
		t.Errorf("Create over a used disk: %v", err)
	}
	must(t, p.Delete(t.Context(), "core"))

	// Nor is a used one that was lost silently replaced by an empty one.
	must(t, p.Create(t.Context(), d))
	must(t, os.WriteFile(filepath.Join(at.root, "core", "serial.log"), []byte("it ran\n"), 0o600))
	must(t, os.Remove(filepath.Join(at.root, "core", "disk.qcow2")))
	err = p.Create(t.Context(), d)
	if err == nil || !strings.HasSuffix(err.Error(), "disk.qcow2 is gone") {
		t.Errorf("Create over a lost disk: %v", err)
	}
	must(t, p.Delete(t.Context(), "core"))
	if _, err := os.Stat(filepath.Join(at.root, "core")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Delete left the directory: %v", err)
	}
}
