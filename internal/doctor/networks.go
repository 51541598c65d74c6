package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
)

// networks compares the subnets of the machine file with those that this host
// has a use for: interfaces, routes, and other projects. What it finds, up
// refuses.
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
		// Another project's network is an interface, too, while it is up.
		used, collides := network.Overlapping(n.CIDR, others)
		if !collides {
			used, collides = network.Overlapping(n.CIDR, p.withoutOwn(host, n))
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
		found = append(found, Finding{Level: Problem, Detail: fmt.Sprintf("%s %s overlaps %s", n.Name, n.CIDR, used), Fix: fix})
	}
	return found
}

func hostOnly(n *machinefile.Network) bool { return n.Kind == machinefile.HostOnly }

// withoutOwn leaves out the interface that the network itself has while a
// machine is on it.
func (p *Patient) withoutOwn(host []network.UsedSubnet, n *machinefile.Network) []network.UsedSubnet {
	state, err := p.Project.Load()
	if err != nil {
		return host // machineFile says so
	}
	return state.WithoutOwn(host, n.Name)
}

// otherSubnets are those of the user's other projects.
func (p *Patient) otherSubnets() []network.UsedSubnet {
	networks, err := p.Project.OtherNetworks()
	if err != nil {
		return nil // a damaged index keeps no machine from coming up
	}
	used := make([]network.UsedSubnet, len(networks))
	for i, n := range networks {
		used[i] = n.Used()
	}
	return used
}
