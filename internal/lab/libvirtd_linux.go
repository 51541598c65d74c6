package lab

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/hostctl/hostctl/internal/wait"
)

// What the lab's libvirtd is told. There is no polkit and no systemd here, and
// QEMU must read images wherever a test puts them.
const (
	libvirtdConf = `auth_unix_rw = "none"
auth_unix_ro = "none"
listen_tcp = 1
listen_tls = 0
auth_tcp = "none"
listen_addr = "127.0.0.1"
log_outputs = "2:stderr"
keepalive_interval = -1
`
	qemuConf = `user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
remember_owner = 0
`
)

// configure writes libvirt's configuration.
func configure() error {
	return errors.Join(
		os.WriteFile("/etc/libvirt/libvirtd.conf", []byte(libvirtdConf), 0o644),
		os.WriteFile("/etc/libvirt/qemu.conf", []byte(qemuConf), 0o644),
	)
}

const (
	// Socket is where the lab's libvirtd listens; it is the system's usual place.
	Socket = "/run/libvirt/libvirt-sock"
	// TCPAddr is its TCP address, without TLS.
	TCPAddr = "127.0.0.1:16509"
	// startTimeout bounds libvirtd's start; the first looks at every QEMU there is.
	startTimeout = time.Minute
)

// Daemon is the lab's libvirtd.
type Daemon struct{}

// Libvirtd returns the lab's libvirtd, and starts it for the first test that
// wants it. It ends with the lab.
func Libvirtd(t testing.TB) Daemon {
	t.Helper()
	Need(t)
	locked(t, func() {
		if _, ok := pid("libvirtd"); !ok {
			start(t)
		}
	})
	return Daemon{}
}

// Restart ends libvirtd in an orderly way and starts it again. Guests run on.
func (Daemon) Restart(t testing.TB) {
	t.Helper()
	locked(t, func() {
		end(t, syscall.SIGTERM)
		start(t)
	})
}

// Kill ends libvirtd by force and leaves it so.
func (Daemon) Kill(t testing.TB) {
	t.Helper()
	locked(t, func() { end(t, syscall.SIGKILL) })
}

// Start starts a libvirtd that was killed.
func (Daemon) Start(t testing.TB) {
	t.Helper()
	locked(t, func() {
		if _, ok := pid("libvirtd"); !ok {
			start(t)
		}
	})
}

// Freeze stops libvirtd from doing anything until thaw is called, or the test ends.
func (Daemon) Freeze(t testing.TB) (thaw func()) {
	t.Helper()
	n, ok := pid("libvirtd")
	if !ok {
		t.Fatal("libvirtd does not run")
	}
	if err := syscall.Kill(n, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	thaw = func() { _ = syscall.Kill(n, syscall.SIGCONT) } // it may be gone
	t.Cleanup(thaw)
	return thaw
}

// OpenFiles counts what libvirtd has open: files, pipes and sockets.
func (Daemon) OpenFiles(t testing.TB) int {
	t.Helper()
	n, ok := pid("libvirtd")
	if !ok {
		t.Fatal("libvirtd does not run")
	}
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(n), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// locked lets one test at a time start and end daemons.
func locked(t testing.TB, f func()) {
	t.Helper()
	lock := flock.New(inState("lock"))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lock.Unlock(); err != nil {
			t.Error(err)
		}
	}()
	f()
}

func start(t testing.TB) {
	t.Helper()
	logFile := inState("libvirtd.log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("libvirtd", "--listen")
	cmd.Stdout, cmd.Stderr = log, log
	run(t, "libvirtd", cmd)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), startTimeout)
	defer cancel()
	for _, at := range [][2]string{{"unix", Socket}, {"tcp", TCPAddr}} {
		if err := wait.Until(ctx, 20*time.Millisecond, func(ctx context.Context) error {
			if _, ok := pid("libvirtd"); !ok {
				return wait.Permanent(errors.New("libvirtd has ended"))
			}
			c, err := new(net.Dialer).DialContext(ctx, at[0], at[1])
			if err == nil {
				c.Close()
			}
			return err
		}); err != nil {
			words, _ := os.ReadFile(logFile) // only adds to the error
			t.Fatalf("start libvirtd: %v\n%s", err, words)
		}
	}
}

func end(t testing.TB, by syscall.Signal) {
	t.Helper()
	n, ok := pid("libvirtd")
	if !ok {
		return
	}
	if err := syscall.Kill(n, by); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), startTimeout)
	defer cancel()
	if err := wait.Until(ctx, 10*time.Millisecond, func(context.Context) error {
		// Its command line is gone before its sockets are.
		if err := syscall.Kill(n, 0); !errors.Is(err, syscall.ESRCH) {
			return errors.Join(errors.New("libvirtd still runs"), err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// run starts a daemon of the lab's under a name that pid finds again.
func run(t testing.TB, name string, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(inState(name+".pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }() // tests end it as they like
}

// pid returns the process of a daemon that runs.
func pid(name string) (int, bool) {
	data, err := os.ReadFile(inState(name + ".pid"))
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(data))
	if err != nil {
		return 0, false
	}
	argv, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(n), "cmdline"))
	program, _, _ := strings.Cut(string(argv), "\x00")
	// A program that has just been executed has no command line for a moment.
	return n, err == nil && (program == "" || filepath.Base(program) == name)
}

// Log returns what libvirtd has said.
func (Daemon) Log(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(inState("libvirtd.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
