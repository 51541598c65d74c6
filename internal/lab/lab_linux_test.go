package lab_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/wait"
)

func TestMain(m *testing.M) { os.Exit(lab.Run(m, lab.Wanted())) }

// Nothing of this host's networks is seen in the lab, and the tests are not its
// first process.
func TestInside(t *testing.T) {
	lab.Need(t)
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		if i.Name != "lo" && !strings.HasPrefix(i.Name, "virbr") {
			t.Errorf("the lab has the interface %s", i.Name)
		}
		if i.Name == "lo" && i.Flags&net.FlagUp == 0 {
			t.Error("loopback is down")
		}
	}
	if os.Getpid() == 1 {
		t.Error("the tests would have to bury orphans")
	}
	if _, err := os.Stat("/proc/1/cmdline"); err != nil {
		t.Error(err)
	}
}

func TestLibvirtdEndsAndComesBack(t *testing.T) {
	d := lab.Libvirtd(t)
	dial := func() error {
		c, err := net.Dial("unix", lab.Socket)
		if err == nil {
			c.Close()
		}
		return err
	}
	d.Restart(t)
	if err := dial(); err != nil {
		t.Error(err)
	}
	d.Kill(t)
	if err := dial(); err == nil {
		t.Error("a killed libvirtd takes connections")
	}
	d.Start(t)
	if err := dial(); err != nil {
		t.Error(err)
	}
}

func TestLAN(t *testing.T) {
	lab.Need(t)
	for _, c := range []lab.LANConfig{
		{Name: "lan0", Prefix: netip.MustParsePrefix("10.77.0.0/24")},
		{Name: "lan1", Prefix: netip.MustParsePrefix("10.78.0.0/24"), Bridge: true},
	} {
		t.Run(c.Name, func(t *testing.T) {
			l := lab.NewLAN(t, c)
			if _, err := net.InterfaceByName(l.Interface); err != nil {
				t.Error(err)
			}
			if leases := l.Leases(t); len(leases) != 0 {
				t.Errorf("leases: %v", leases)
			}
			out, err := l.Command("ip", "-brief", "address").CombinedOutput()
			if err != nil || !strings.Contains(string(out), l.Router.String()) {
				t.Errorf("%v: %s", err, out)
			}
			// A host on the LAN is reached from there and not from here.
			server := l.Command("busybox", "nc", "-l", "-p", "7", "-e", "/bin/echo", "hello")
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = server.Process.Kill()
				_ = server.Wait()
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			at := netip.AddrPortFrom(l.Router, 7)
			if err := wait.Until(ctx, 20*time.Millisecond, func(ctx context.Context) error {
				conn, err := l.Dial(ctx, "tcp", at)
				if err == nil {
					conn.Close()
				}
				return err
			}); err != nil {
				t.Error(err)
			}
			if conn, err := new(net.Dialer).DialContext(ctx, "tcp", at.String()); err == nil {
				conn.Close()
				t.Error("this host has a way to the LAN without an address on it")
			}
		})
	}
}
