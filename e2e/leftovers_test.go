//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/wait"
)

// traces is what a project's machines occupy on the host.
type traces struct {
	ids   []string
	ports []string
}

// traces reads the state file for what nothingLeft looks for.
func (s *site) traces() traces {
	s.t.Helper()
	var tr traces
	for _, m := range s.machines() {
		tr.ids = append(tr.ids, m.ID)
		for _, f := range m.Forwards {
			tr.ports = append(tr.ports, fmt.Sprintf("%s:%d", f.HostIP, f.HostPort))
		}
	}
	return tr
}

// processes returns the pids of this host's QEMU processes with the id.
func processes(t *testing.T, id string) []string {
	t.Helper()
	return pids(t, func(pid string) bool {
		argv, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		return err == nil && strings.Contains(string(argv), "-uuid\x00"+id)
	})
}

// agents returns the pids of this host's processes of the binary under test.
// Between two commands those are agents.
func agents(t *testing.T) []string {
	t.Helper()
	return pids(t, func(pid string) bool {
		exe, err := os.Readlink(filepath.Join("/proc", pid, "exe"))
		return err == nil && exe == hostctl
	})
}

func pids(t *testing.T, match func(pid string) bool) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	check(t, err)
	var out []string
	for _, dir := range dirs {
		if pid := filepath.Base(dir); match(pid) {
			out = append(out, pid)
		}
	}
	return out
}

// kill sends the process a signal.
func kill(pid string, sig syscall.Signal) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	return syscall.Kill(n, sig)
}

// nothingLeft fails when a destroyed project left a process, a port, a file, an
// index entry, an interface or anything in libvirt.
func (s *site) nothingLeft(tr traces) {
	s.t.Helper()
	for _, id := range tr.ids {
		if pids := processes(s.t, id); len(pids) > 0 {
			s.t.Errorf("process %v of domain %s is left", pids, id)
		}
	}
	s.awaitNoAgent()
	for _, addr := range tr.ports {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			s.t.Errorf("port is left: %v", err)
			continue
		}
		check(s.t, l.Close())
	}
	if left := list(s.t, s.dir); len(left) != 1 || left[0] != "machine.hcl" {
		s.t.Errorf("left in the project: %q", left)
	}
	for _, dir := range []string{filepath.Join(s.state, "hostctl", "projects"), s.run} {
		if left := list(s.t, dir); len(left) > 0 {
			s.t.Errorf("left in %s: %q", dir, left)
		}
	}
	for _, thing := range inventory(s.t) {
		if !slices.Contains(s.before, thing) {
			s.t.Errorf("left on the host: %s", thing)
		}
	}
}

// awaitNoAgent waits for the end of an agent that has nothing left to do.
func (s *site) awaitNoAgent() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	if err := wait.Until(ctx, 50*time.Millisecond, func(context.Context) error {
		if pids := agents(s.t); len(pids) > 0 {
			return fmt.Errorf("agent %v is left", pids)
		}
		return nil
	}); err != nil {
		s.t.Error(err)
	}
}

// inventory lists what hostctl's networks and libvirt's objects are on this
// host. Outside a lab it is empty: others use the host, too.
func inventory(t *testing.T) []string {
	t.Helper()
	if !lab.Wanted() {
		return nil
	}
	var out []string
	interfaces, err := net.Interfaces()
	check(t, err)
	for _, i := range interfaces {
		out = append(out, "interface "+i.Name)
	}
	if _, err := os.Stat(lab.Socket); err != nil {
		return out // no test has wanted libvirtd yet
	}
	for _, domain := range virshLines(t, "list", "--all", "--name") {
		out = append(out, "domain "+domain)
	}
	for _, network := range virshLines(t, "net-list", "--all", "--name") {
		out = append(out, "network "+network)
	}
	// A pool stays, as the image cache does; what machines have in it does not.
	for _, pool := range virshLines(t, "pool-list", "--name") {
		for _, volume := range virshLines(t, "vol-list", pool) {
			out = append(out, "volume "+strings.Fields(volume)[0])
		}
	}
	return out
}

// virshLines returns the lines that virsh prints.
func virshLines(t *testing.T, args ...string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(virsh(t, args...)) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// virsh does something to libvirt behind hostctl's back, and returns what is
// printed.
func virsh(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("virsh", append([]string{"--quiet", "--connect", "qemu:///system"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("virsh %q: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// list returns the names in a directory, none if there is no such directory.
func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if !os.IsNotExist(err) {
		check(t, err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
