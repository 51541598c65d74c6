//go:build linux || darwin

package agent_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/sync/nfs"
)

// folder makes a folder of the host's and returns a share of it.
func (b *bench) folder(name string) project.ShareSpec {
	b.t.Helper()
	dir := filepath.Join(b.home, name)
	check(b.t, os.MkdirAll(dir, 0o755))
	return project.ShareSpec{Name: name, Type: "nfs", Server: "embedded", Host: dir, Guest: "/srv/" + name}
}

// sharing is a machine with shares and nothing else that needs the agent.
func (b *bench) sharing(name string, shares ...project.ShareSpec) {
	b.t.Helper()
	unlock, err := b.project.Lock(b.t.Context(), "test", nil)
	check(b.t, err)
	_, err = b.project.ShareKey()
	check(b.t, errors.Join(err, unlock()))
	ms := b.machine(name, 1)
	ms.Spec.PublishPorts, ms.Spec.Shares = false, shares
	b.update(func(s *project.State) { s.Machines[name] = ms })
}

// call asks the server what a guest's kernel asks, with one argument, and returns
// what follows the status of the reply. RFC 5531, and RFC 1813 with its appendix I.
func (b *bench) call(program, procedure uint32, argument []byte) ([]byte, error) {
	b.t.Helper()
	ports, err := b.project.SharePorts()
	check(b.t, err)
	conn, err := net.Dial("tcp", netip.AddrPortFrom(loopback, ports[loopback]).String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	check(b.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	var m []byte
	for _, n := range []uint32{7, 0, 2, program, 3, procedure, 0, 0, 0, 0, uint32(len(argument))} {
		m = binary.BigEndian.AppendUint32(m, n)
	}
	m = append(m, argument...)
	m = append(m, make([]byte, -len(argument)&3)...)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, 1<<31|uint32(len(m))), m...)); err != nil {
		return nil, err
	}
	var head [4 + 7*4]byte // the record's mark, and a reply up to the status
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	if status := binary.BigEndian.Uint32(head[len(head)-4:]); status != 0 {
		return nil, nfsStatus(status)
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[:])&^(1<<31)-uint32(len(head)-4))
	_, err = io.ReadFull(conn, rest)
	return rest, err
}

// nfsStatus is what the server says when something is not as asked.
type nfsStatus uint32

// RFC 1813, section 2.6 and appendix I.
const (
	mountRefused nfsStatus = 13
	stale        nfsStatus = 70
)

func (s nfsStatus) Error() string { return fmt.Sprintf("status %d", uint32(s)) }

// noFamily is the number of the user of a guest of which the state says nothing.
var noFamily = image.Guest{}.UserID()

// mountable asks for the share's root, and returns its handle.
func (b *bench) mountable(share project.ShareSpec) ([]byte, error) {
	b.t.Helper()
	return b.mountableAs(share, noFamily)
}

func (b *bench) mountableAs(share project.ShareSpec, owner uint32) ([]byte, error) {
	b.t.Helper()
	key, err := b.project.ShareKey()
	check(b.t, err)
	reply, err := b.call(100005, 1, []byte(nfs.Path(key, share.Export(owner))))
	if err != nil {
		return nil, err
	}
	return reply[4 : 4+binary.BigEndian.Uint32(reply)], nil
}

// ownerOf asks whose a handle's file is.
func (b *bench) ownerOf(handle []byte) (uint32, error) {
	b.t.Helper()
	reply, err := b.call(100003, 1, handle)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(reply[3*4:]), nil
}

func TestShares(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	code, data := b.folder("code"), b.folder("data")
	b.sharing("core-01", code)
	b.sync("core-01")
	root, err := b.mountable(code)
	check(t, err)
	if _, err := b.mountable(data); err == nil {
		t.Error("a folder that is no machine's is served")
	}
	ports, err := b.project.SharePorts()
	check(t, err)
	want := agent.Share{Name: "code", Host: code.Host, Address: netip.AddrPortFrom(loopback, ports[loopback])}
	if got := b.status().Machines["core-01"].Shares; len(got) != 1 || got[0] != want {
		t.Errorf("status %+v, want %+v", got, want)
	}

	// The next agent has the same port, and guests' handles hold.
	check(t, syscall.Kill(b.status().PID, syscall.SIGKILL))
	b.sync("core-01")
	again, err := b.mountable(code)
	check(t, err)
	if now, err := b.project.SharePorts(); err != nil || now[loopback] != ports[loopback] || string(again) != string(root) {
		t.Errorf("port %v (%v) and root %x, before %v and %x", now, err, again, ports, root)
	}

	// One that the guest has not unmounted yet is served on.
	b.update(func(s *project.State) {
		ms := s.Machines["core-01"]
		ms.Mounted, ms.Spec.Shares = ms.Spec.Shares, []project.ShareSpec{data}
		s.Machines["core-01"] = ms
	})
	b.sync("core-01")
	for _, share := range []project.ShareSpec{code, data} {
		_, err := b.mountable(share)
		check(t, err)
	}
	b.update(func(s *project.State) {
		ms := s.Machines["core-01"]
		ms.Mounted = ms.Spec.Shares
		s.Machines["core-01"] = ms
	})
	b.sync("core-01")
	if _, err := b.mountable(code); err == nil {
		t.Error("a share that the guest has no longer is served")
	}

	// With the machine, the server goes, and the agent, which has no other work.
	check(t, b.fake.Stop(t.Context(), "core-01"))
	b.until(func() error {
		if _, err := b.mountable(data); err == nil {
			return errors.New("a machine that is down is served")
		}
		return nil
	})
}

// A folder that is missing is told of, and keeps no other from being served.
// When it is there again, so is the share.
func TestShareWithoutItsFolder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	code, data := b.folder("code"), b.folder("data")
	check(t, os.Remove(data.Host))
	b.sharing("core-01", code, data)
	err := b.client.Sync(t.Context(), "core-01")
	if err == nil || !strings.Contains(err.Error(), `share "data"`) || !strings.Contains(err.Error(), data.Host) {
		t.Errorf("sync: %v", err)
	}
	_, err = b.mountable(code)
	check(t, err)
	if got := b.status().Machines["core-01"].Shares; len(got) != 2 || got[0].Error != "" || got[1].Error == "" {
		t.Errorf("status %+v", got)
	}
	b.folder("data")
	b.until(func() error {
		_, err := b.mountable(data)
		return err
	})
	b.sync("core-01")
}

// A folder that went away while it was served does not keep the server from taking
// on another's.
func TestShareLostItsFolder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	code, data := b.folder("code"), b.folder("data")
	b.sharing("core-01", code)
	b.sync("core-01")
	check(t, os.Remove(code.Host))
	b.sharing("core-02", data)
	b.sync("core-02")
	_, err := b.mountable(data)
	check(t, err)
	b.folder("code")
	b.sync("core-01")
	_, err = b.mountable(code)
	check(t, err)
}

// A project that is moved takes its shares along: what guests have mounted and open
// holds. A folder that was moved elsewhere is another share, and that the one which the
// guest is to give up is gone is in nobody's way.
func TestMovedShares(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dir := b.project.Dir()
	code := project.ShareSpec{Name: "code", Type: "nfs", Server: "embedded", Host: filepath.Join(dir, "code"), Guest: "/srv/code"}
	check(t, os.Mkdir(code.Host, 0o755))
	data := b.folder("data")
	b.sharing("core-01", code, data)
	b.update(func(s *project.State) {
		ms := s.Machines["core-01"]
		ms.Mounted = ms.Spec.Shares
		s.Machines["core-01"] = ms
	})
	b.sync("core-01")
	root, err := b.mountable(code)
	check(t, err)

	moved := filepath.Join(b.home, "moved")
	check(t, os.Rename(dir, moved))
	b.project, err = project.Open(moved, project.Options{StateHome: b.home})
	check(t, err)
	b.client = b.newClient("1")
	elsewhere := data
	elsewhere.Host = filepath.Join(b.home, "elsewhere")
	check(t, os.Rename(data.Host, elsewhere.Host))
	b.update(func(s *project.State) {
		ms := s.Machines["core-01"]
		ms.Spec.Shares = []project.ShareSpec{ms.Spec.Shares[0], elsewhere}
		s.Machines["core-01"] = ms
	})
	b.sync("core-01")
	again, err := b.mountable(code)
	check(t, err)
	if string(again) != string(root) {
		t.Errorf("root %x, before %x", again, root)
	}
	_, err = b.ownerOf(root)
	check(t, err)
	_, err = b.mountable(elsewhere)
	check(t, err)
	if _, err := b.mountable(data); !errors.Is(err, mountRefused) {
		t.Errorf("mount of what is gone: %v", err)
	}
	if got := b.status().Machines["core-01"]; len(got.Shares) != 3 || got.Shares[0].Host != filepath.Join(moved, "code") || got.Error != "" {
		t.Errorf("status %+v", got)
	}
}

// Somebody else has the port that guests know: another is taken and kept.
func TestSharePortTaken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	code := b.folder("code")
	b.sharing("core-01", code)
	l, err := net.Listen("tcp", netip.AddrPortFrom(loopback, free(t)).String())
	check(t, err)
	defer l.Close()
	taken := netip.MustParseAddrPort(l.Addr().String()).Port()
	check(t, b.project.KeepSharePorts(map[netip.Addr]uint16{loopback: taken}))
	b.sync("core-01")
	ports, err := b.project.SharePorts()
	check(t, err)
	if ports[loopback] <= taken {
		t.Errorf("port %d, with %d taken", ports[loopback], taken)
	}
	_, err = b.mountable(code)
	check(t, err)
}

// The last share leaves a guest in which a container has it still: the container
// is told, for as long as the machine runs.
func TestLastShareLeaves(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	code := b.folder("code")
	b.sharing("core-01", code)
	b.sync("core-01")
	root, err := b.mountable(code)
	check(t, err)
	_, err = b.ownerOf(root)
	check(t, err)
	before, err := b.project.SharePorts()
	check(t, err)
	b.update(func(s *project.State) {
		ms := s.Machines["core-01"]
		ms.Mounted, ms.Spec.Shares, ms.SharesLeft = nil, nil, true
		s.Machines["core-01"] = ms
	})
	told := func() {
		t.Helper()
		b.sync("core-01")
		if _, err := b.ownerOf(root); !errors.Is(err, stale) {
			t.Errorf("a handle of it: %v", err)
		}
		if _, err := b.mountable(code); !errors.Is(err, mountRefused) {
			t.Errorf("mount: %v", err)
		}
		if now, err := b.project.SharePorts(); err != nil || now[loopback] != before[loopback] {
			t.Errorf("port %v (%v), before %v", now, err, before)
		}
		if m, ok := b.status().Machines["core-01"]; !ok || len(m.Shares) > 0 || m.Error != "" {
			t.Errorf("status %+v", m)
		}
	}
	told()
	check(t, syscall.Kill(b.status().PID, syscall.SIGKILL))
	told() // the next agent knows

	check(t, b.fake.Stop(t.Context(), "core-01"))
	b.until(func() error {
		if _, err := b.client.Status(t.Context()); !errors.Is(err, agent.ErrNotRunning) {
			return errors.New("the agent stays")
		}
		return nil
	})
}

// Guests of different families have one folder, and in each it is the guest's
// own user's.
func TestOwnersOfFamilies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	code := b.folder("code")
	families := map[string]string{"core-01": "flatcar", "core-002": "fedora-coreos"}
	for name, family := range families {
		b.sharing(name, code)
		b.update(func(s *project.State) {
			ms := s.Machines[name]
			ms.Image.Guest.Family = family // as states were before the number was in them
			s.Machines[name] = ms
		})
	}
	for name, want := range map[string]uint32{"core-01": 500, "core-002": 1000} {
		b.sync(name)
		root, err := b.mountableAs(code, want)
		check(t, err)
		if got, err := b.ownerOf(root); err != nil || got != want {
			t.Errorf("%s: the owner is %d, want %d (%v)", families[name], got, want, err)
		}
	}
}

// A guest that does not let itself be told of file changes is named.
func TestGuestThatIsNotTold(t *testing.T) {
	t.Parallel()
	b, g := newBench(t), newGuest(t)
	code, quiet := b.folder("code"), b.folder("quiet")
	code.Events = true
	b.sharing("core-01", code, quiet)
	b.update(func(s *project.State) {
		ms := s.Machines["core-01"]
		ms.Mounted = ms.Spec.Shares
		s.Machines["core-01"] = ms
	})
	b.here(func(c *agent.Config) {
		c.Target = func(string, project.MachineState) (sshclient.Target, error) { return g.target, nil }
	})
	b.sync("core-01")
	const want = "the guest is not told of file changes: the shell in the guest ended with 1: sudo: a password is required"
	b.until(func() error {
		got := b.status().Machines["core-01"].Shares
		if len(got) != 2 || got[0].Notice != want || got[0].Error != "" || got[1].Notice != "" {
			return fmt.Errorf("status %+v", got)
		}
		return nil
	})
	// Where nobody is to be told, nothing is wrong.
	b.update(func(s *project.State) {
		ms := s.Machines["core-01"]
		ms.Spec.Shares = []project.ShareSpec{quiet}
		ms.Mounted, ms.MountsSum = ms.Spec.Shares, "another"
		s.Machines["core-01"] = ms
	})
	b.sync("core-01")
	if got := b.status().Machines["core-01"].Shares; len(got) != 1 || got[0].Notice != "" {
		t.Errorf("status %+v", got)
	}
}

// A guest is told of what it is to be told of now, whatever it has mounted.
func TestEventsOfOneShare(t *testing.T) {
	t.Parallel()
	b, g := newBench(t), newGuest(t)
	code, loud := b.folder("code"), b.folder("loud")
	loud.Events = true
	b.sharing("core-01", code, loud)
	b.here(func(c *agent.Config) {
		c.Target = func(string, project.MachineState) (sshclient.Target, error) { return g.target, nil }
	})
	for _, told := range []bool{true, false, true} {
		code.Events = told
		b.update(func(s *project.State) {
			ms := s.Machines["core-01"]
			ms.Spec.Shares = []project.ShareSpec{code, loud}
			ms.Mounted = ms.Spec.Shares
			s.Machines["core-01"] = ms
		})
		b.sync("core-01")
		b.until(func() error {
			g.mu.Lock()
			defer g.mu.Unlock()
			if !strings.Contains(g.told, loud.Guest) || strings.Contains(g.told, code.Guest) != told {
				return fmt.Errorf("with events = %t the guest was told %q", told, g.told)
			}
			return nil
		})
	}
}
