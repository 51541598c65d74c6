package project

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/hostctl/hostctl/network"
)

// OtherNetwork is a host-only network of another project of the user.
type OtherNetwork struct {
	Dir  string // the project's
	Name string
	CIDR netip.Prefix
}

// Used is the network as a subnet that this project has to keep away from.
func (n OtherNetwork) Used() network.UsedSubnet {
	return network.UsedSubnet{Prefix: n.CIDR, By: fmt.Sprintf("the network %q of the project in %s", n.Name, n.Dir)}
}

// WithoutOwn leaves out of used the interfaces that a host-only network of this
// project is itself: one for each subnet that machines have it in, or that is
// named.
func (s *State) WithoutOwn(used []network.UsedSubnet, name string, own ...netip.Prefix) []network.UsedSubnet {
	own = slices.Clone(own)
	for _, ms := range s.Machines {
		for _, nic := range ms.NICs {
			if nic.Network == name && nic.CIDR.IsValid() && !slices.Contains(own, nic.CIDR) {
				own = append(own, nic.CIDR)
			}
		}
	}
	used = slices.Clone(used)
	for _, p := range own {
		if i := slices.IndexFunc(used, func(u network.UsedSubnet) bool { return u.Prefix == p }); i >= 0 {
			used = slices.Delete(used, i, i+1)
		}
	}
	return used
}

// OtherNetworks lists the host-only networks of the user's other projects that
// machines are on, by directory and name. A project that cannot be read has
// none: it is not this one's to complain about.
func (p *Project) OtherNetworks() ([]OtherNetwork, error) {
	entries, err := p.index.List()
	if err != nil {
		return nil, err
	}
	seen := map[OtherNetwork]bool{}
	for _, e := range entries {
		if e.Dir == p.dir || e.ID == p.ID() || e.Stale != "" {
			continue
		}
		_, s, err := readState(e.Dir)
		if err != nil {
			continue
		}
		for _, ms := range s.Machines {
			for _, nic := range ms.NICs {
				if nic.CIDR.IsValid() {
					seen[OtherNetwork{e.Dir, nic.Network, nic.CIDR}] = true
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b OtherNetwork) int {
		return cmp.Or(cmp.Compare(a.Dir, b.Dir), cmp.Compare(a.Name, b.Name), a.CIDR.Compare(b.CIDR))
	}), nil
}
