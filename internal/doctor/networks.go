package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
)

// networks compares the subnets of the machine file with those that this host
// has a use for: interfaces, routes, and other projects.
func (p *Patient) networks(ctx context.Context) []Finding {
	if p.Config == nil || !slices.ContainsFunc(p.Config.Networks, hostOnly) {
		return nil
	}
	host, err := network.UsedSubnets(ctx)
	if err != nil {
		return one(Finding{Level: Warning, Detail: err.Error()})
	}
	others := p.otherSubnets()
	// What is suggested must not collide with the file's others either.
	all := slices.Concat(host, others)
	for _, n := range p.Config.Networks {
		if hostOnly(n) {
			all = append(all, network.UsedSubnet{Prefix: n.CIDR})
		}
	}
	var found []Finding
	for _, n := range p.Config.Networks {
		if !hostOnly(n) {
			continue
		}
		level := Problem
		used, collides := network.Overlapping(n.CIDR, p.withoutOwn(host, n))
		if !collides {
			// Not in use now: it will be when both are up.
			level = Warning
			used, collides = network.Overlapping(n.CIDR, others)
		}
		if !collides {
			found = append(found, ok("%s %s collides with nothing", n.Name, n.CIDR))
			continue
		}
		fix := fmt.Sprintf("choose another cidr (%s line %d)", machinefile.FileName, n.RangeOf("cidr").Start.Line)
		if free, err := network.FreeSubnet(all); err == nil {
			all = append(all, network.UsedSubnet{Prefix: free})
			fix = fmt.Sprintf("cidr = %q (%s line %d)", free, machinefile.FileName, n.RangeOf("cidr").Start.Line)
		}
		found = append(found, Finding{Level: level, Detail: fmt.Sprintf("%s %s overlaps %s", n.Name, n.CIDR, used), Fix: fix})
	}
	return found
}

func hostOnly(n *machinefile.Network) bool { return n.Kind == machinefile.HostOnly }

// withoutOwn leaves out the interface that the network itself has while a
// machine is on it.
func (p *Patient) withoutOwn(host []network.UsedSubnet, n *machinefile.Network) []network.UsedSubnet {
	state, err := p.Project.Load()
	if err != nil || !slices.Contains(subnets(state), n.CIDR) {
		return host
	}
	return slices.DeleteFunc(slices.Clone(host), func(u network.UsedSubnet) bool { return u.Prefix == n.CIDR })
}

// otherSubnets are those of the user's other projects.
func (p *Patient) otherSubnets() []network.UsedSubnet {
	projects, err := p.Others()
	if err != nil {
		return nil // a damaged index keeps no machine from coming up
	}
	var used []network.UsedSubnet
	for _, other := range projects {
		if other.Dir() == p.Project.Dir() {
			continue
		}
		state, err := other.Load()
		if err != nil {
			continue // its own doctor says so
		}
		for _, s := range subnets(state) {
			used = append(used, network.UsedSubnet{Prefix: s, By: "a network of the project in " + other.Dir()})
		}
	}
	return used
}

// subnets are those that a project's machines are on.
func subnets(s *project.State) []netip.Prefix {
	var all []netip.Prefix
	for _, m := range s.Machines {
		for _, n := range m.NICs {
			if n.CIDR.IsValid() && !slices.Contains(all, n.CIDR) {
				all = append(all, n.CIDR)
			}
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return all
}
