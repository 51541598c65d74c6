package qemu_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/network/lan"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/qemu"
)

// switchPort is the only one of the domain "core".
func switchPort(t *testing.T, p *qemu.Provider) (provider.SwitchPort, lan.Port) {
	t.Helper()
	ports, err := p.SwitchPorts(t.Context(), "core")
	must(t, err)
	if len(ports) != 1 {
		t.Fatalf("ports: %v", ports)
	}
	mac, err := net.ParseMAC(ports[0].MAC)
	must(t, err)
	return ports[0], lan.Port{MAC: mac, Socket: ports[0].Socket}
}

// join joins the port to a network, as an agent does, until leave.
func join(t *testing.T, port lan.Port) (n *lan.Network, leave func()) {
	t.Helper()
	n, err := lan.New(dev.CIDR, nil)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Join(ctx, port) }()
	eventually(t, func() error {
		if !n.Joined(port.MAC) {
			return errors.New("not joined")
		}
		return nil
	})
	return n, func() {
		cancel()
		<-ended
		n.Close()
	}
}

func TestPrivateLAN(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	p := at.provider(200 * time.Millisecond)
	t.Cleanup(func() { must(t, p.DeleteNetwork(context.WithoutCancel(t.Context()), "dev")) })
	st, err := p.EnsureNetwork(t.Context(), dev)
	must(t, err)
	why := "since bridges need root"
	if runtime.GOOS != "linux" {
		why = "since hostctl makes bridges on Linux only"
	}
	want := "host-only network dev: a private LAN between the machines, " + why + "; the host reaches them by forwards"
	if st.HostReach || st.Notice != want {
		t.Errorf("got %+v, want %s", st, want)
	}
	d := onDev(newDomain(t, "core"))
	must(t, p.Create(t.Context(), d))
	t.Cleanup(func() { must(t, p.Delete(context.WithoutCancel(t.Context()), "core")) })
	if _, err := p.SwitchPorts(t.Context(), "core"); !errors.Is(err, provider.ErrNotRunning) {
		t.Errorf("a stopped domain: %v", err)
	}
	must(t, p.Start(t.Context(), "core"))
	sp, port := switchPort(t, at.provider(0))
	if sp.HostOnly != dev || sp.MAC != d.NICs[0].MAC || sp.Address != d.NICs[0].Address || filepath.Dir(sp.Socket) != at.run {
		t.Errorf("port: %+v", sp)
	}

	// Agents come and go, guests too.
	for range 3 {
		_, leave := join(t, port)
		leave()
	}
	n, leave := join(t, port)
	defer leave()
	stopped(t, p.Stop(t.Context(), "core"))
	eventually(t, func() error {
		if n.Joined(port.MAC) {
			return errors.New("a stopped guest is joined")
		}
		return nil
	})
	entries, err := os.ReadDir(at.run)
	must(t, err)
	if left := slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == "dev.lan" }); len(left) != 0 {
		t.Errorf("a stopped guest leaves %v", left)
	}
	must(t, p.Start(t.Context(), "core"))
	eventually(t, func() error {
		if !n.Joined(port.MAC) {
			return errors.New("the guest that was started again is not joined")
		}
		return nil
	})
	if st, err := p.EnsureNetwork(t.Context(), dev); err != nil || st.Notice != want {
		t.Errorf("with a guest on it: %+v, %v", st, err)
	}
}

// A QEMU that is older than 7.2 says so in its own words.
func TestOldQEMU(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	at := newPlace(t)
	remove(t, at, "core")
	old := filepath.Join(t.TempDir(), "qemu-system-x86_64")
	must(t, os.WriteFile(old, []byte("#!/bin/sh\n"+
		"echo \"$0: -netdev stream,id=nic0,server=on,addr.type=unix,addr.path=/x: Parameter 'type' does not accept value 'stream'\" >&2\nexit 1\n"), 0o700))
	p := qemu.New(qemu.Config{Root: at.root, RunDir: at.runDir, Privileged: func() bool { return false },
		LookPath: func(file string) (string, error) {
			if strings.HasPrefix(file, "qemu-system-") {
				return old, nil
			}
			return "/usr/bin/" + file, nil
		}})
	must(t, p.Create(t.Context(), onDev(newDomain(t, "core"))))
	err := p.Start(t.Context(), "core")
	if want := "this QEMU cannot join machines to a private LAN"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Before the first up a project has neither an id nor a place for sockets.
func TestNoNetworksInANewProject(t *testing.T) {
	t.Parallel()
	p := qemu.New(qemu.Config{Root: filepath.Join(t.TempDir(), "machines"),
		RunDir:    func() (string, error) { return "", errors.New("no machines were made here yet") },
		ProjectID: func() string { return "" },
	})
	if have, err := p.Networks(t.Context()); err != nil || len(have) != 0 {
		t.Errorf("networks: %v, %v", have, err)
	}
	must(t, p.DeleteNetwork(t.Context(), "dev"))
}
