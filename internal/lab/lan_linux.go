package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostctl/hostctl/internal/wait"
)

// LAN is a network outside this host, played by a network namespace: a wire
// leads to it from an interface of this host's, and a DHCP server listens on it.
type LAN struct {
	// Interface is this host's end of the wire, or the bridge it is plugged
	// into: what a bridged network of a machine file names.
	Interface string
	// Router is the address of the LAN's own computer, which serves DHCP.
	Router netip.Addr
	// Prefix is the LAN's subnet.
	Prefix netip.Prefix

	namespace string
}

// LANConfig describes a LAN.
type LANConfig struct {
	// Name is short and unique in the lab: interfaces are named after it.
	Name   string
	Prefix netip.Prefix // for instance 10.77.0.0/24
	// Bridge plugs this host's end into a bridge, as hosts that run guests often do.
	Bridge bool
}

// NewLAN makes a LAN that the test's end removes.
func NewLAN(t testing.TB, c LANConfig) *LAN {
	t.Helper()
	Need(t)
	l := &LAN{
		Interface: c.Name, Prefix: c.Prefix.Masked(),
		Router:    c.Prefix.Masked().Addr().Next(),
		namespace: c.Name,
	}
	port := c.Name
	if c.Bridge {
		port += "-p"
	}
	far := c.Name + "-far"
	ok := func(argv ...string) {
		t.Helper()
		if err := command(argv...); err != nil {
			t.Fatal(err)
		}
	}
	ok("ip", "netns", "add", l.namespace)
	t.Cleanup(func() {
		if err := command("ip", "netns", "del", l.namespace); err != nil {
			t.Error(err)
		}
	})
	ok("ip", "link", "add", port, "type", "veth", "peer", "name", far, "netns", l.namespace)
	t.Cleanup(func() { // a namespace takes its end along some time after it was deleted
		if err := command("ip", "link", "del", port); err != nil {
			t.Error(err)
		}
	})
	if c.Bridge {
		ok("ip", "link", "add", l.Interface, "type", "bridge")
		t.Cleanup(func() {
			if err := command("ip", "link", "del", l.Interface); err != nil {
				t.Error(err)
			}
		})
		ok("ip", "link", "set", port, "master", l.Interface, "up")
	}
	ok("ip", "link", "set", l.Interface, "up")
	ok("ip", "-n", l.namespace, "link", "set", "lo", "up")
	ok("ip", "-n", l.namespace, "link", "set", far, "up")
	ok("ip", "-n", l.namespace, "address", "add", fmt.Sprintf("%s/%d", l.Router, l.Prefix.Bits()), "dev", far)
	l.serveDHCP(t, far)
	return l
}

// serveDHCP starts the LAN's DHCP server.
func (l *LAN) serveDHCP(t testing.TB, far string) {
	t.Helper()
	first := l.Router
	for range 99 {
		first = first.Next()
	}
	last := first
	for range 50 {
		last = last.Next()
	}
	logFile := inState(l.namespace + ".log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := l.Command("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--log-facility=-", "--log-dhcp",
		"--user=root", "--group=root", "--no-ping", "--dhcp-authoritative", "--interface="+far, "--bind-interfaces",
		"--pid-file="+inState(l.namespace+"-dnsmasq.pid"), "--dhcp-leasefile="+l.leaseFile(),
		fmt.Sprintf("--dhcp-range=%s,%s,1h", first, last))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	// Ready when it has its pid file, which it writes once it is bound.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := wait.Until(ctx, 10*time.Millisecond, func(context.Context) error {
		select {
		case err := <-ended:
			ended <- err
			return wait.Permanent(errors.Join(errors.New("dnsmasq has ended"), err))
		default:
		}
		_, err := os.Stat(inState(l.namespace + "-dnsmasq.pid"))
		return err
	}); err != nil {
		words, _ := os.ReadFile(logFile) // only adds to the error
		t.Fatalf("start the DHCP server: %v\n%s", err, words)
	}
}

func (l *LAN) leaseFile() string { return inState(l.namespace + ".leases") }

// Leases returns the DHCP server's leases by hardware address.
func (l *LAN) Leases(t testing.TB) map[string]netip.Addr {
	t.Helper()
	data, err := os.ReadFile(l.leaseFile())
	if err != nil {
		t.Fatal(err)
	}
	leases, err := parseLeases(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return leases
}

// Command prepares a program that runs on the LAN's computer.
func (l *LAN) Command(argv ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", l.namespace}, argv...)...)
}

// Dial connects from the LAN's computer. The address must be a number.
func (l *LAN) Dial(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	there, err := os.Open("/run/netns/" + l.namespace)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	// A connection to one numeric address is made on the calling thread.
	conn, err := new(net.Dialer).DialContext(ctx, network, addr.String())
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked and ends with its goroutine.
		return nil, errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return conn, err
}
