//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/wait"
)

// The LANs that bridged networks of the tests lead to: this host is plugged
// into one by a bridge, into the other by a plain interface.
var (
	bridgedLAN = lab.LANConfig{Name: "lan0", Prefix: netip.MustParsePrefix("10.77.0.0/24"), Bridge: true}
	plainLAN   = lab.LANConfig{Name: "wire0", Prefix: netip.MustParsePrefix("10.78.0.0/24")}
)

// bridges declares networks that lead to the LANs. The first of the second's
// interfaces is another computer's.
const bridges = `
network "bridged" "lan"  { interface = "lan0" }
network "bridged" "wire" { interface = ["en1: Wi-Fi (AirPort)", "wire0"] }
`

// onFirst puts the first machine on the networks.
func onFirst(networks string) string {
	return `
  dynamic "network" {
    for_each = index == 0 ? [` + networks + `] : []
    labels   = [network.value]
    content {}
  }`
}

// TestHostOnly brings examples/network up: machines on a network of their own
// and the host's.
func TestHostOnly(t *testing.T) {
	// Three machines, the first of which is on two LANs beside.
	t.Run("libvirt", func(t *testing.T) {
		lab.Libvirtd(t)
		lans := []*lab.LAN{lab.NewLAN(t, bridgedLAN), lab.NewLAN(t, plainLAN)}
		// With an address, as a computer's own card; the ends of containers' wires have none.
		out, err := exec.Command("ip", "address", "add", "10.78.0.2/24", "dev", lans[1].Interface).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s := newSite(t, "network", inMachines(on("libvirt", example(t, "network")), onFirst(`"lan", "wire"`))+bridges)
		s.hostctl("up")
		tr := s.traces()
		neighbours(t, s, 3)
		reachable(t, s, 3)
		bridged(t, s, "lan", lans[0])
		bridged(t, s, "wire", lans[1])
		leave(t, s, tr)
	})
	// Root makes a bridge, and taps on it.
	t.Run("qemu", func(t *testing.T) {
		lab.Need(t)
		lan := lab.NewLAN(t, bridgedLAN)
		s := newSite(t, "network", inMachines(two(t), onFirst(`"lan"`))+bridges)
		s.hostctl("up")
		tr := s.traces()
		neighbours(t, s, 2)
		reachable(t, s, 2)
		bridged(t, s, "lan", lan)
		leave(t, s, tr)
	})
	// Without root, the project's agent is the switch, and the host is not on it.
	t.Run("qemu without root", func(t *testing.T) {
		s := newSite(t, "network", two(t))
		s.dropPrivileges()
		up := s.try(t.Context(), "up")
		if up.code != 0 {
			t.Fatalf("up: exit %d\n%s", up.code, up.stderr)
		}
		contains(t, "up", up.stderr, "host-only network dev: a private LAN between the machines, since bridges need root; the host reaches them by forwards")
		tr := s.traces()
		neighbours(t, s, 2)

		t.Run("the agent is killed", func(t *testing.T) {
			boot := s.hostctl("ssh", "core-01", "-c", "cat /proc/sys/kernel/random/boot_id")
			killed := agents(t)
			if len(killed) != 1 {
				t.Fatalf("agents %v, want one", killed)
			}
			s.killAgents(t)
			s.hostctl("up")
			if now := agents(t); len(now) != 1 || now[0] == killed[0] {
				t.Errorf("agents %v after %v was killed, want another one", now, killed)
			}
			neighbours(t, s, 2)
			if now := s.hostctl("ssh", "core-01", "-c", "cat /proc/sys/kernel/random/boot_id"); now != boot {
				t.Error("the guest was restarted")
			}
		})
		leave(t, s, tr)
	})
}

// two is examples/network with two machines.
func two(t *testing.T) string {
	t.Helper()
	file := example(t, "network")
	out := strings.Replace(file, "count  = 3", "count  = 2", 1)
	if out == file {
		t.Fatal("examples/network has another count")
	}
	return out
}

func name(i int) string    { return fmt.Sprintf("core-%02d", i+1) }
func address(i int) string { return fmt.Sprintf("172.28.8.%d", 101+i) }

// neighbours fails unless each machine of examples/network reaches every other
// by its name and by its address, and the host reaches Docker on each through
// what env prints.
func neighbours(t *testing.T, s *site, machines int) {
	t.Helper()
	for i := range machines {
		var script, want strings.Builder
		for j := range machines {
			if i == j {
				continue
			}
			fmt.Fprintf(&script, "ping -q -c 1 -W 10 %s >/dev/null && echo %[1]s\n", address(j))
			// The name is the neighbour's address on this network, wherever it is written down.
			fmt.Fprintf(&script, "ping -q -c 1 -W 10 %s | sed -n 's/^PING \\([^ ]*\\) (\\([^)]*\\)).*/\\1 is \\2/p'\n", name(j))
			fmt.Fprintf(&script, "ping -q -c 1 -W 10 %s >/dev/null && echo %[1]s\n", name(j))
			fmt.Fprintf(&want, "%s\n%s is %[1]s\n%[2]s\n", address(j), name(j))
		}
		r := s.try(t.Context(), "ssh", name(i), "-c", script.String())
		if r.stdout != want.String() {
			t.Errorf("from %s: exit %d, got\n%swant\n%s%s", name(i), r.code, r.stdout, want.String(), r.stderr)
		}
		r = s.exec(t.Context(), "", "bash", "-c", fmt.Sprintf(`eval "$(hostctl env %s)"; docker info --format '{{.Name}}'`, name(i)))
		if r.stdout != name(i)+"\n" {
			t.Errorf("Docker of %s calls itself %q\n%s", name(i), r.stdout, r.stderr)
		}
	}
}

// reachable fails unless the host reaches Docker on each machine at its address.
func reachable(t *testing.T, s *site, machines int) {
	t.Helper()
	for i := range machines {
		r := s.exec(t.Context(), "", "env", "DOCKER_HOST=tcp://"+address(i)+":2375", "docker", "info", "--format", "{{.Name}}")
		if r.stdout != name(i)+"\n" {
			t.Errorf("Docker at %s calls itself %q, want %s\n%s", address(i), r.stdout, name(i), r.stderr)
		}
	}
}

// bridged fails unless the first machine got an address from the LAN's DHCP
// server and is there for computers on the LAN, but for its Docker API, which is
// root's.
func bridged(t *testing.T, s *site, network string, lan *lab.LAN) {
	t.Helper()
	var mac string
	for _, nic := range s.machines()[name(0)].NICs {
		if nic.Network == network {
			mac = nic.MAC
		}
	}
	var at netip.Addr
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := wait.Until(ctx, time.Second, func(context.Context) error {
		leases := lan.Leases(t)
		var ok bool
		if at, ok = leases[mac]; !ok {
			return fmt.Errorf("no lease for %q among %v", mac, leases)
		}
		return nil
	}); err != nil {
		t.Errorf("network %s: %v", network, err)
		return
	}
	if !lan.Prefix.Contains(at) {
		t.Errorf("network %s: %s is not of the LAN", network, at)
	}
	if out, err := lan.Command("busybox", "ping", "-c", "1", "-W", "10", at.String()).CombinedOutput(); err != nil {
		t.Errorf("ping %s from the LAN: %v\n%s", at, err, out)
	}
	conn, err := lan.Dial(ctx, "tcp", netip.AddrPortFrom(at, 22))
	if err != nil {
		t.Errorf("SSH of %s from the LAN: %v", at, err)
		return
	}
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "SSH-2.0-") {
		t.Errorf("SSH of %s says %q, %v", at, line, err)
	}
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if open, err := lan.Dial(short, "tcp", netip.AddrPortFrom(at, 2375)); err == nil {
		open.Close()
		t.Errorf("Docker of %s is open to the LAN", at)
	}
}

// leave destroys one machine, with the network still in use, and then the rest.
func leave(t *testing.T, s *site, tr traces) {
	t.Helper()
	s.hostctl("destroy", "--yes", name(1))
	if running := s.status()[0].State; running != "running" {
		t.Errorf("%s is %s after the end of a neighbour", name(0), running)
	}
	if r := s.try(t.Context(), "ssh", name(0), "-c", "ip -brief address"); !strings.Contains(r.stdout, address(0)+"/24") {
		t.Errorf("%s has the addresses %q\n%s", name(0), r.stdout, r.stderr)
	}
	s.hostctl("destroy", "--yes")
	s.nothingLeft(tr)
}

// killAgents ends the agents by force.
func (s *site) killAgents(t *testing.T) {
	t.Helper()
	killed := agents(t)
	for _, pid := range killed {
		check(t, kill(pid, syscall.SIGKILL))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check(t, wait.Until(ctx, 10*time.Millisecond, func(context.Context) error {
		if slices.ContainsFunc(agents(t), func(pid string) bool { return slices.Contains(killed, pid) }) {
			return fmt.Errorf("agents %v still run", killed)
		}
		return nil
	}))
}
