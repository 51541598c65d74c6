//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/wait"
)

// faulty is a machine with an address that the host reaches, and forwards.
const faulty = `
network "hostonly" "dev" {
  cidr = "172.28.8.0/24"
}
machine "core-01" {
  image  = "dockerhost"
  network "dev" {
    address = "172.28.8.101"
  }
  %s
}
`

// TestFaults breaks what up relies on, between its steps and between commands:
// up reports it or repairs it.
func TestFaults(t *testing.T) {
	onEach(t, func(t *testing.T, provider string) {
		lab.Need(t)
		faults(t, provider)
	})
}

func faults(t *testing.T, provider string) {
	ports := freePorts(t, 3)
	fixed, spare, other := ports[0], ports[1], ports[2]
	var machineFile string
	write := func(s *site, forwards ...string) {
		machineFile = on(provider, fmt.Sprintf(faulty, strings.Join(forwards, "\n  ")))
		s.write(machineFile)
	}
	forward := func(name string, guest, host int, more string) string {
		return fmt.Sprintf("forward %q {\n    guest = %d\n    host = %d\n%s  }", name, guest, host, more)
	}
	s := newSite(t, "faults", "")
	write(s, forward("web", 22, fixed, ""))

	t.Run("a port is taken between plan and start", func(t *testing.T) {
		var taken net.Listener
		r := s.upWith(t, hooks{{lifecycle.StepDone, "assign ports"}: func(*os.Process) { taken = listen(t, fixed) }})
		defer taken.Close()
		if r.code != 1 {
			t.Errorf("exit %d, want 1", r.code)
		}
		contains(t, "stderr", r.stderr, fmt.Sprintf(`forward "web": host port 127.0.0.1:%d is in use`, fixed), "set auto_correct = true (machine.hcl line ")
	})
	t.Run("libvirtd restarts and a port that may move is taken", func(t *testing.T) {
		write(s, forward("web", 22, fixed, ""), forward("spare", 22, spare, "    auto_correct = true\n"))
		var taken net.Listener
		hooks := hooks{{lifecycle.StepDone, "assign ports"}: func(*os.Process) { taken = listen(t, spare) }}
		if provider == "libvirt" {
			d := lab.Libvirtd(t)
			hooks[moment{lifecycle.StepStarted, "wait for SSH"}] = func(*os.Process) { d.Restart(t) }
		}
		r := s.upWith(t, hooks)
		defer taken.Close()
		if r.code != 0 {
			t.Fatalf("up: exit %d\n%s", r.code, r.stderr)
		}
		answers(t, fmt.Sprintf("127.0.0.1:%d", fixed))
		if moved := strings.TrimSpace(s.hostctl("port", "core-01", "spare")); moved == fmt.Sprintf("127.0.0.1:%d", spare) {
			t.Errorf("the forward is on %s, which is taken", moved)
		} else {
			answers(t, moved)
		}
		reachable(t, s, 1)
	})
	t.Run("forwards change while the machine runs", func(t *testing.T) {
		boot := s.bootID()
		write(s, forward("web", 22, other, ""), forward("more", 2375, spare, ""))
		s.hostctl("up")
		answers(t, fmt.Sprintf("127.0.0.1:%d", other))
		if got := s.hostctl("ssh", "core-01", "-c", "hostname"); got != "core-01\n" {
			t.Errorf("hostname %q", got)
		}
		r := s.exec(t.Context(), "", "docker", "--host", fmt.Sprintf("tcp://127.0.0.1:%d", spare), "info", "--format", "{{.Name}}")
		if r.stdout != "core-01\n" {
			t.Errorf("Docker through the new forward calls itself %q\n%s", r.stdout, r.stderr)
		}
		listen(t, fixed).Close()
		if now := s.bootID(); now != boot {
			t.Error("the guest was restarted")
		}
	})
	t.Run("the network is deleted under a running machine", func(t *testing.T) {
		boot := s.bootID()
		deleteNetwork(t, provider)
		s.hostctl("up")
		if now := s.bootID(); now != boot {
			t.Error("the guest was restarted")
		}
		reachable(t, s, 1)
	})
	t.Run("the domain is ended and the network deleted", func(t *testing.T) {
		s.endDomain(t, provider)
		deleteNetwork(t, provider)
		if got := s.status()[0].State; got != "stopped" {
			t.Errorf("state %s, want stopped", got)
		}
		s.hostctl("up")
		reachable(t, s, 1)
		if n := processes(t, s.traces().ids[0]); len(n) != 1 {
			t.Errorf("QEMU processes %v, want one", n)
		}
	})
	if provider == "libvirt" {
		t.Run("the domain is deleted", func(t *testing.T) {
			s.endDomain(t, provider)
			virsh(t, "undefine", s.traces().ids[0])
			if got := s.status()[0].State; got != "not created" {
				t.Errorf("state %s, want not created", got)
			}
			s.hostctl("up")
			reachable(t, s, 1)
		})
	}

	if provider == "libvirt" {
		shareFaults(t, s, machineFile)
	}

	tr := s.traces()
	s.hostctl("destroy", "--yes")
	s.nothingLeft(tr)
}

// freePorts returns ports that nobody has.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var out []int
	for range n {
		l := listen(t, 0)
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

// listen takes a port of the host's loopback, 0 for any.
func listen(t *testing.T, port int) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	check(t, err)
	return l
}

// answers fails unless the guest's SSH server is at the address.
func answers(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "SSH-2.0-") {
		t.Errorf("%s says %q, %v", addr, line, err)
	}
}

// bootID differs each time the first machine boots.
func (s *site) bootID() string {
	s.t.Helper()
	return s.hostctl("ssh", "core-01", "-c", "cat /proc/sys/kernel/random/boot_id")
}

// endDomain powers the only machine off behind hostctl's back.
func (s *site) endDomain(t *testing.T, provider string) {
	t.Helper()
	id := s.traces().ids[0]
	if provider == "libvirt" {
		virsh(t, "destroy", id)
		return
	}
	for _, pid := range processes(t, id) {
		check(t, kill(pid, syscall.SIGKILL))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The kernel takes a moment to end a process of a gigabyte.
	check(t, wait.Until(ctx, 50*time.Millisecond, func(context.Context) error {
		if left := processes(t, id); len(left) > 0 {
			return fmt.Errorf("%v still run", left)
		}
		return nil
	}))
}

// deleteNetwork removes the host-only network behind hostctl's back.
func deleteNetwork(t *testing.T, provider string) {
	t.Helper()
	bridge := interfaceWith(t, "172.28.8.1/24")
	if provider != "libvirt" {
		out, err := exec.Command("ip", "link", "del", bridge).CombinedOutput()
		if err != nil {
			t.Fatalf("delete %s: %v: %s", bridge, err, out)
		}
		return
	}
	for _, network := range virshLines(t, "net-list", "--name") {
		if !strings.Contains(virsh(t, "net-dumpxml", network), "'"+bridge+"'") {
			continue
		}
		virsh(t, "net-destroy", network)
		virsh(t, "net-undefine", network)
		return
	}
	t.Fatalf("no network has the bridge %s", bridge)
}

// interfaceWith returns the host's interface that has the address.
func interfaceWith(t *testing.T, addr string) string {
	t.Helper()
	interfaces, err := net.Interfaces()
	check(t, err)
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		check(t, err)
		for _, a := range addrs {
			if a.String() == addr {
				return i.Name
			}
		}
	}
	t.Fatalf("no interface has the address %s", addr)
	return ""
}
