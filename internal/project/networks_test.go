package project_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/project"
)

// set writes machines into a project's state.
func (h home) set(dir string, change func(*project.State)) {
	h.t.Helper()
	p, unlock := h.locked(dir)
	defer unlock()
	err := p.Update(func(s *project.State) error {
		change(s)
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// on is a machine on host-only networks, given as names and subnets in turn.
func on(networks ...string) project.MachineState {
	ms := project.MachineState{Provider: "qemu"}
	for i := 0; i < len(networks); i += 2 {
		ms.NICs = append(ms.NICs, project.NIC{Network: networks[i], MAC: "52:54:00:00:00:01", CIDR: netip.MustParsePrefix(networks[i+1])})
	}
	return ms
}

func TestOtherNetworks(t *testing.T) {
	t.Parallel()
	h, parent := newHome(t), realTempDir(t)
	mine, one, two := h.make(parent, "mine"), h.make(parent, "one"), h.make(parent, "two")
	gone, sick := h.make(parent, "gone"), h.make(parent, "sick")
	h.set(mine.Dir(), func(s *project.State) { s.Machines["core"] = on("dev", "172.28.1.0/24") })
	h.set(one.Dir(), func(s *project.State) {
		s.Machines["a"] = on("dev", "172.28.2.0/24", "db", "172.28.3.0/24")
		s.Machines["b"] = on("dev", "172.28.2.0/24")
		lan := project.MachineState{NICs: []project.NIC{{Network: "lan", MAC: "52:54:00:00:00:01", Interface: "eth0"}}}
		s.Machines["c"] = lan
	})
	h.set(two.Dir(), func(s *project.State) { s.Machines["a"] = on("dev", "172.28.4.0/24") })
	h.set(gone.Dir(), func(s *project.State) { s.Machines["a"] = on("dev", "172.28.5.0/24") })
	if err := os.RemoveAll(gone.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sick.StateDir(), "state.json"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := h.open(mine.Dir()).OtherNetworks()
	if err != nil {
		t.Fatal(err)
	}
	want := []project.OtherNetwork{
		{Dir: one.Dir(), Name: "db", CIDR: netip.MustParsePrefix("172.28.3.0/24")},
		{Dir: one.Dir(), Name: "dev", CIDR: netip.MustParsePrefix("172.28.2.0/24")},
		{Dir: two.Dir(), Name: "dev", CIDR: netip.MustParsePrefix("172.28.4.0/24")},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Where the libvirt machines are is forgotten with the last of them.
func TestLibvirtIsForgotten(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), realTempDir(t)
	h.set(dir, func(s *project.State) {
		s.LibvirtURI, s.LibvirtPool = "qemu:///system", "fast"
		s.Machines["a"] = project.MachineState{Provider: "libvirt"}
		s.Machines["b"] = project.MachineState{Provider: "libvirt"}
		s.Machines["c"] = project.MachineState{Provider: "qemu"}
	})
	p, _ := h.locked(dir)
	for _, c := range []struct{ remove, uri, pool string }{{"a", "qemu:///system", "fast"}, {"b", "", ""}} {
		if err := p.RemoveMachine(c.remove); err != nil {
			t.Fatal(err)
		}
		if s, err := p.Load(); err != nil || s.LibvirtURI != c.uri || s.LibvirtPool != c.pool {
			t.Errorf("without %s: %+v, %v", c.remove, s, err)
		}
	}
}
