package libvirt_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/provider"
)

// site is one project that a test breaks something of.
type site struct {
	t     *testing.T
	where place
	p     provider.Provider
	d     provider.Domain
}

func newSite(t *testing.T, uri string) *site {
	t.Helper()
	lab.Libvirtd(t)
	s := &site{t: t, where: newPlace(uri, lab.Socket)}
	s.p = s.where.provider(t, 5*time.Second)
	s.d = newDomain(t, "core", t.TempDir())
	t.Cleanup(func() {
		if err := s.p.Delete(context.WithoutCancel(t.Context()), "core"); err != nil {
			t.Error(err)
		}
		for _, left := range leftovers(t, s.where) {
			t.Errorf("left behind: %s", left)
		}
	})
	return s
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// up does what hostctl up does.
func (s *site) up() {
	s.t.Helper()
	s.ok(s.p.Create(s.t.Context(), s.d))
	s.ok(s.p.Start(s.t.Context(), "core"))
	s.state(provider.Running)
}

func (s *site) state(want provider.State) {
	s.t.Helper()
	st, err := s.p.Status(s.t.Context(), "core")
	s.ok(err)
	if st.State != want {
		s.t.Fatalf("the domain is %s, want %s", st.State, want)
	}
}

func (s *site) lookup() (*rpc.Libvirt, rpc.Domain) {
	s.t.Helper()
	l := direct(s.t, s.where.socket)
	dom, err := l.DomainLookupByName("hostctl-" + s.where.project + "-core")
	s.ok(err)
	return l, dom
}

// overlay is the domain's disk on the host.
func (s *site) overlay() os.FileInfo {
	s.t.Helper()
	paths, err := filepath.Glob("/var/lib/libvirt/*/hostctl-" + s.where.project + "-core.*.disk")
	s.ok(err)
	if len(paths) != 1 {
		s.t.Fatalf("disks are %q", paths)
	}
	info, err := os.Stat(paths[0])
	s.ok(err)
	return info
}

func TestLibvirtdRestartsDuringCalls(t *testing.T) {
	s := newSite(t, "qemu:///system")
	s.up()
	daemon := lab.Libvirtd(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				st, err := s.p.Status(t.Context(), "core")
				if err != nil || st.State != provider.Running {
					t.Errorf("status: %v, %v", st.State, err)
					return
				}
			}
		})
	}
	for range 3 {
		daemon.Restart(t)
		s.ok(s.p.Create(t.Context(), s.d))
		s.ok(s.p.Start(t.Context(), "core"))
	}
	stop()
	wg.Wait()
	// And while it waits for the guest.
	daemon.Restart(t)
	stopped := make(chan error, 1)
	go func() { stopped <- s.p.Stop(t.Context(), "core") }()
	daemon.Restart(t)
	s.ok(<-stopped)
	s.state(provider.Stopped)
}

func TestWatchGoesOnAfterARestart(t *testing.T) {
	s := newSite(t, "qemu:///system")
	s.up()
	changes := make(chan string, 100)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w, _ := provider.As[provider.Watcher](s.p)
	ended := make(chan error, 1)
	go func() { ended <- w.Watch(ctx, func(name string) { changes <- name }) }()
	told := func(want string) {
		t.Helper()
		timeout := time.After(30 * time.Second)
		for {
			select {
			case name := <-changes:
				if name == want {
					return
				}
			case <-timeout:
				t.Fatalf("nobody tells that %q has changed", want)
			}
		}
	}
	destroy(t, s.where, "core")
	told("core")
	lab.Libvirtd(t).Restart(t)
	told("")
	s.ok(s.p.Start(t.Context(), "core"))
	told("core")
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestLibvirtdIsGoneOrStuck(t *testing.T) {
	s := newSite(t, "qemu:///system")
	s.up()
	daemon := lab.Libvirtd(t)
	thaw := daemon.Freeze(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := s.p.Status(ctx, "core"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stuck: %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a stuck libvirtd holds a call for %s", took)
	}
	thaw()
	s.state(provider.Running)

	daemon.Kill(t)
	// One that has never reached it says at once what to do.
	_, err := s.where.provider(t, time.Second).Status(t.Context(), "core")
	if err == nil || !strings.Contains(err.Error(), "libvirtd does not run here") || !strings.Contains(hint.Of(err), "systemctl enable --now libvirtd") {
		t.Errorf("gone: %v, hint %q", err, hint.Of(err))
	}
	daemon.Start(t)
	s.state(provider.Running)
}

func TestDomainUndefinedBehindTheBack(t *testing.T) {
	for _, running := range []bool{false, true} {
		s := newSite(t, "qemu:///system")
		s.up()
		disk := s.overlay()
		if !running {
			s.ok(s.p.Stop(t.Context(), "core"))
		}
		l, dom := s.lookup()
		s.ok(l.DomainUndefine(dom))
		if running {
			s.state(provider.Running)
			s.ok(l.DomainDestroy(dom))
		}
		if _, err := s.p.Status(t.Context(), "core"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("status: %v, want %v", err, provider.ErrNotFound)
		}
		s.up()
		if !os.SameFile(disk, s.overlay()) {
			t.Error("the guest's data is lost")
		}
	}
}

func TestDiskGoneBehindTheBack(t *testing.T) {
	s := newSite(t, "qemu:///system")
	s.up()
	s.ok(s.p.Stop(t.Context(), "core"))
	l := direct(t, s.where.socket)
	v, err := l.StorageVolLookupByPath(filepath.Join("/var/lib/libvirt/hostctl", s.overlay().Name()))
	s.ok(err)
	s.ok(l.StorageVolDelete(v, 0))
	err = s.p.Create(t.Context(), s.d)
	if err == nil || !strings.Contains(err.Error(), "is gone from storage pool") || hint.Of(err) == "" {
		t.Errorf("create: %v", err)
	}
}

// A network that is taken away comes back with the same addresses, also under a
// guest that runs.
func TestNetworkGoneBehindTheBack(t *testing.T) {
	for _, c := range []struct {
		name            string
		running, forget bool
	}{
		{"stopped under a stopped guest", false, false},
		{"removed under a stopped guest", false, true},
		{"stopped under a running guest", true, false},
		{"removed under a running guest", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, "qemu:///system")
			dev := provider.HostOnly{Name: "dev", CIDR: netip.MustParsePrefix("172.28.211.0/24")}
			s.d.NICs = []provider.NIC{{Network: "dev", MAC: "52:54:00:aa:bb:01", HostOnly: &dev, Address: netip.MustParsePrefix("172.28.211.101/32").Addr()}}
			t.Cleanup(func() {
				n, _ := provider.As[provider.HostOnlyNetworker](s.p)
				if err := errors.Join(s.p.Delete(context.WithoutCancel(t.Context()), "core"), n.DeleteNetwork(context.WithoutCancel(t.Context()), "dev")); err != nil {
					t.Error(err)
				}
			})
			s.up()
			nat, _ := provider.As[provider.NATAddresser](s.p)
			before, err := nat.NATAddress(t.Context(), "core", s.d.ID)
			s.ok(err)
			if !c.running {
				s.ok(s.p.Stop(t.Context(), "core"))
			}
			l := direct(t, s.where.socket)
			for _, name := range []string{"hostctl-" + s.where.project, "hostctl-" + s.where.project + "-dev.net"} {
				n, err := l.NetworkLookupByName(name)
				s.ok(err)
				s.ok(l.NetworkDestroy(n))
				if c.forget {
					s.ok(l.NetworkUndefine(n))
				}
			}
			works := func() (works, exists bool) {
				n, _ := provider.As[provider.HostOnlyNetworker](s.p)
				have, err := n.Networks(t.Context())
				s.ok(err)
				works, exists = have["dev"]
				return works, exists
			}
			if works, exists := works(); works || exists == c.forget {
				t.Errorf("the network exists: %v, and works: %v", exists, works)
			}
			s.up()
			if works, _ := works(); !works {
				t.Error("the network does not work")
			}
			after, err := nat.NATAddress(t.Context(), "core", s.d.ID)
			s.ok(err)
			if after != before {
				t.Errorf("the guest's address was %s and is %s", before, after)
			}
			for card, bridge := range s.cards() {
				if bridge == "" {
					t.Errorf("card %s is on no bridge", card)
				}
			}
			// Looking again changes nothing.
			cards := s.cards()
			s.up()
			for card, bridge := range s.cards() {
				if cards[card] != bridge {
					t.Errorf("card %s was on %s and is on %s", card, cards[card], bridge)
				}
			}
		})
	}
}

// cards returns the bridge that each of the running guest's taps is plugged into.
func (s *site) cards() map[string]string {
	s.t.Helper()
	l, dom := s.lookup()
	text, err := l.DomainGetXMLDesc(dom, 0)
	s.ok(err)
	var x libvirtxml.Domain
	s.ok(x.Unmarshal(text))
	found := map[string]string{}
	for _, i := range x.Devices.Interfaces {
		master, err := os.Readlink("/sys/class/net/" + i.Target.Dev + "/master")
		if err != nil {
			master = ""
		}
		found[i.Target.Dev] = filepath.Base(master)
		if master == "" {
			found[i.Target.Dev] = ""
		}
	}
	if len(found) != len(s.d.NICs)+1 {
		s.t.Errorf("cards are %v", found)
	}
	return found
}

func TestPoolStoppedBehindTheBack(t *testing.T) {
	s := newSite(t, "qemu:///system")
	s.up()
	s.ok(s.p.Stop(t.Context(), "core"))
	l := direct(t, s.where.socket)
	pool, err := l.StoragePoolLookupByName("hostctl")
	s.ok(err)
	s.ok(l.StoragePoolDestroy(pool))
	s.state(provider.Stopped)
	s.up()
}

func TestInterruptedUpload(t *testing.T) {
	const remote = "qemu+tcp://127.0.0.1/system"
	s := newSite(t, remote)
	s.up()
	l := direct(t, s.where.socket)
	base := func() (rpc.StorageVol, os.FileInfo) {
		t.Helper()
		paths, err := filepath.Glob("/var/lib/libvirt/hostctl/hostctl-base-*")
		s.ok(err)
		if len(paths) != 1 {
			t.Fatalf("base images are %q", paths)
		}
		info, err := os.Stat(paths[0])
		s.ok(err)
		v, err := l.StorageVolLookupByPath(paths[0])
		s.ok(err)
		return v, info
	}
	_, whole := base()
	s.ok(s.p.Stop(t.Context(), "core"))
	// What a hostctl that was killed in the middle would have left.
	s.ok(os.Truncate("/var/lib/libvirt/hostctl/"+whole.Name(), 1000))
	s.up()
	if _, again := base(); again.Size() != whole.Size() {
		t.Errorf("the base image has %d of %d bytes", again.Size(), whole.Size())
	}
	s.ok(s.p.Stop(t.Context(), "core"))
	v, _ := base()
	s.ok(l.StorageVolDelete(v, 0))
	s.up()
	base()

	// Another project has it, too; it goes with the last.
	other := newSite(t, remote)
	other.d.Disk.Base = s.d.Disk.Base
	other.up()
	base()
	s.ok(s.p.Delete(t.Context(), "core"))
	base()
	s.ok(other.p.Delete(t.Context(), "core"))
	if paths, _ := filepath.Glob("/var/lib/libvirt/hostctl*/*"); len(paths) > 0 {
		t.Errorf("left behind: %q", paths)
	}
}

// Another project retires the pool that both would use, at any moment of a Delete.
func TestPoolGoesDuringDelete(t *testing.T) {
	s := newSite(t, "qemu:///system")
	s.ok(s.p.Create(t.Context(), s.d)) // gives the project its name
	s.ok(s.p.Delete(t.Context(), "core"))
	const definition = "<pool type='dir'><name>hostctl</name><uuid>5f6c1d0e-3a55-4c0c-9d7b-6a1f1f7d0c01</uuid>" +
		"<target><path>/var/lib/libvirt/hostctl</path></target></pool>"
	l := direct(t, s.where.socket)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			pool, err := l.StoragePoolDefineXML(definition, 0)
			if err != nil {
				done <- err
				return
			}
			// Each of these may find that Delete has retired the pool.
			_ = l.StoragePoolBuild(pool, rpc.StoragePoolBuildNew)
			_ = l.StoragePoolCreate(pool, 0)
			_ = l.StoragePoolDestroy(pool)
			_ = l.StoragePoolUndefine(pool)
		}
		done <- nil
	}()
	for range 200 {
		if err := s.p.Delete(t.Context(), "nobody"); err != nil {
			t.Errorf("delete: %v", err)
			break
		}
	}
	stop()
	s.ok(<-done)
}
