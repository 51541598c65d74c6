package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stage is the variable that says where a process of the test binary stands: it is
// unset outside, "init" in the lab's first process, "inside" in the tests, and
// anything else is the reason why there is no lab.
const stage = "HOSTCTL_LAB"

const (
	stageInit   = "init"
	stageInside = "inside"
)

// programs are what the lab executes, and the Debian packages they come from.
var programs = map[string]string{
	"libvirtd":           "libvirt-daemon-system",
	"qemu-system-x86_64": "qemu-system-x86",
	"dnsmasq":            "dnsmasq-base",
	"ip":                 "iproute2",
	"iptables":           "iptables",
}

// Wanted reports whether this run is to use libvirt.
func Wanted() bool {
	return slices.Contains(strings.Split(os.Getenv("HOSTCTL_TEST_PROVIDERS"), ","), "libvirt")
}

// Run runs the tests, in a lab when they want one and this host can have it, and
// returns their exit code.
func Run(m *testing.M, wanted bool) int {
	switch os.Getenv(stage) {
	case stageInit:
		code, err := initProcess()
		if err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			return 1
		}
		return code
	case stageInside:
		return m.Run()
	}
	reason := ""
	if wanted {
		reason = unavailable()
	}
	if !wanted || reason != "" {
		if err := os.Setenv(stage, reason); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			return 1
		}
		return m.Run()
	}
	code, err := enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	return code
}

// Need skips a test that is not in the lab, and fails it when libvirt was asked
// for and the lab could not be had.
func Need(t testing.TB) {
	t.Helper()
	switch at := os.Getenv(stage); {
	case at == stageInside:
	case at != "":
		t.Fatal("no lab: " + at)
	default:
		t.Skip("runs libvirtd: set HOSTCTL_TEST_PROVIDERS=libvirt")
	}
}

// unavailable says why there can be no lab, or "".
func unavailable() string {
	if os.Getuid() != 0 {
		return "it needs root"
	}
	var missing []string
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, pkg)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return "missing packages: " + strings.Join(missing, " ")
	}
	return ""
}

// enter runs this very command in new namespaces and waits for it.
func enter() (int, error) {
	// The child dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return again(stageInit, &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}, func(cmd *exec.Cmd) error { return cmd.Wait() })
}

// initProcess is the first process in the lab: it hides the host's libvirt, starts the
// tests, and buries orphans until they are done. libvirtd takes a QEMU that nobody has
// waited for to be alive still.
func initProcess() (int, error) {
	if err := furnish(); err != nil {
		return 0, err
	}
	return again(stageInside, nil, func(cmd *exec.Cmd) error {
		for {
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, 0, nil)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			if pid != cmd.Process.Pid {
				continue
			}
			if status.ExitStatus() != 0 {
				return exitStatus(status)
			}
			return nil
		}
	})
}

// exitStatus is how the tests ended.
type exitStatus unix.WaitStatus

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", s.ExitCode()) }

// ExitCode is -1 for a process that was killed.
func (s exitStatus) ExitCode() int { return unix.WaitStatus(s).ExitStatus() }

// again executes this command once more at another stage, passes signals on to it,
// and returns its exit code.
func again(at string, attr *syscall.SysProcAttr, wait func(*exec.Cmd) error) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stage+"="+at)
	cmd.SysProcAttr = attr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may just have ended
		}
	}()
	err = wait(cmd)
	if exit, ok := errors.AsType[interface {
		error
		ExitCode() int
	}](err); ok {
		if code := exit.ExitCode(); code >= 0 {
			return code, nil
		}
		return 1, nil // killed
	}
	return 0, err
}

// furnish makes the lab out of fresh namespaces.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// The one there is shows the interfaces of the host.
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	// /run with everything in it: no D-Bus, so that libvirtd finds neither the host's
	// firewalld nor its systemd.
	for _, dir := range []string{"/run", "/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), stateDir} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := configure(); err != nil {
		return err
	}
	return command("ip", "link", "set", "lo", "up")
}

// stateDir is where the lab keeps its pid files, logs and certificates.
const stateDir = "/run/hostctl-lab"

func inState(name string) string { return filepath.Join(stateDir, name) }

// command runs a program whose output matters only when it fails.
func command(argv ...string) error {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
