package project

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// OtherNetwork is a host-only network of another project of the user.
type OtherNetwork struct {
	Dir  string // the project's
	Name string
	CIDR netip.Prefix
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
