package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// errRefused is about a network that was refused as another machine's: one
// mistake in the file is told of once.
var errRefused = errors.New("refused, as for another machine")

// boots reports whether the machine is going to be started.
func (b *boot) boots() bool {
	return b.status.State != provider.Running || b.restart || b.replace
}

// networksAtStart are those that the machine's next start has, and what it was
// given on them if it exists.
func (b *boot) networksAtStart() ([]project.NetworkSpec, []project.NIC) {
	wanted := specOf(b.machine)
	if b.replace || b.plan.State == NotCreated {
		return wanted.Networks, nil
	}
	return startable(b.state.Spec, wanted).Networks, b.state.NICs
}

// checkNetworks refuses what costs days when a guest is up with it, and chooses
// the interfaces of bridged networks. It makes nothing.
func (b *boot) checkNetworks(ctx context.Context, state *project.State) error {
	if !b.boots() {
		return nil // what runs keeps its networks
	}
	specs, nics := b.networksAtStart()
	if len(specs) == 0 {
		return nil
	}
	at, err := b.engine.Provider(b.providerName())
	if err != nil {
		return err
	}
	for _, n := range specs {
		if nic := nicOn(nics, n.Name); n.CIDR.IsValid() {
			err = b.checkHostOnly(ctx, state, at, n, nic)
		} else {
			err = b.chooseInterface(ctx, state, at, n, nic)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// nicOn is what a machine was given on the network; zero for none.
func nicOn(nics []project.NIC, name string) project.NIC {
	for _, nic := range nics {
		if nic.Network == name {
			return nic
		}
	}
	return project.NIC{}
}

func (b *boot) checkHostOnly(ctx context.Context, state *project.State, at provider.Provider, n project.NetworkSpec, nic project.NIC) error {
	p, ok := provider.As[provider.HostOnlyNetworker](at)
	if !ok {
		return b.refuseNetwork(n.Name, "", "The provider has no host-only networks",
			fmt.Errorf("the provider %q has no host-only networks", b.providerName()), "use another provider, or leave the network out")
	}
	if err := b.checkAddress(state, n, nic); err != nil {
		return err
	}
	return b.op.once("network "+b.providerName()+" "+n.Name+" "+n.CIDR.String(), func() error {
		if err := b.checkOldSubnet(state, n); err != nil {
			return err
		}
		return b.checkSubnet(ctx, state, p, n)
	}, fmt.Errorf("network %q: %w", n.Name, errRefused))
}

// checkAddress refuses a declared address that another machine was assigned.
func (b *boot) checkAddress(state *project.State, n project.NetworkSpec, nic project.NIC) error {
	if !n.Address.IsValid() || nic.Address == n.Address {
		return nil
	}
	for name, ms := range state.Machines {
		if name != b.name && !b.op.replaced[name] && nicOn(ms.NICs, n.Name).Address == n.Address {
			return b.refuseNetwork(n.Name, "address", "Address is taken",
				fmt.Errorf("%s on the network %q belongs to machine %q", n.Address, n.Name, name),
				fmt.Sprintf("use another, or have that machine made anew with an address of its own: hostctl destroy %s", name))
		}
	}
	return nil
}

// checkOldSubnet refuses a subnet beside another that machines of this project
// still have on the network.
func (b *boot) checkOldSubnet(state *project.State, n project.NetworkSpec) error {
	var old []string
	var was netip.Prefix
	for name, ms := range state.Machines {
		if nic := nicOn(ms.NICs, n.Name); name != b.name && !b.op.replaced[name] && nic.CIDR.IsValid() && nic.CIDR != n.CIDR {
			old, was = append(old, name), nic.CIDR
		}
	}
	if len(old) == 0 {
		return nil
	}
	slices.Sort(old)
	return b.refuseNetwork(n.Name, "cidr", "Network is in use with another subnet",
		fmt.Errorf("the network %q is %s for %s", n.Name, was, strings.Join(old, ", ")),
		fmt.Sprintf("go back to that, or have those made anew too, with a new disk: hostctl up --yes %s", strings.Join(old, " ")))
}

// checkSubnet refuses a subnet that this host, or another project, has a use
// for: packets to it would go one way or the other.
func (b *boot) checkSubnet(ctx context.Context, state *project.State, p provider.HostOnlyNetworker, n project.NetworkSpec) error {
	subnets := b.engine.Subnets
	if subnets == nil {
		subnets = network.UsedSubnets
	}
	used, err := subnets(ctx)
	if err != nil {
		return err
	}
	if state.ID != "" { // else the project has nothing yet, nor an id to find it by
		made, err := p.Networks(ctx)
		if err != nil {
			return err
		}
		if _, ours := made[n.Name]; ours {
			used = state.WithoutOwn(used, n.Name, n.CIDR)
		}
	}
	others, err := b.engine.Project.OtherNetworks()
	if err != nil {
		return err
	}
	var foreign []network.UsedSubnet
	for _, o := range others {
		foreign = append(foreign, o.Used())
	}
	// Another project's network is an interface, too, while it is up.
	by, taken := network.Overlapping(n.CIDR, foreign)
	if !taken {
		by, taken = network.Overlapping(n.CIDR, used)
	}
	if !taken {
		return nil
	}
	used = append(used, foreign...)
	for _, m := range b.op.all {
		for _, at := range m.Networks {
			if at.Network.CIDR.IsValid() {
				used = append(used, network.UsedSubnet{Prefix: at.Network.CIDR})
			}
		}
	}
	advice := "use another subnet"
	if free, err := network.FreeSubnet(used); err == nil {
		advice = fmt.Sprintf("use another subnet, such as %q", free)
	}
	return b.refuseNetwork(n.Name, "cidr", "Subnet is taken",
		fmt.Errorf("%s, the subnet of the network %q, overlaps %s", n.CIDR, n.Name, by), advice)
}

// refuseNetwork points at a value of the network's block, or at the machine's
// place on the network.
func (b *boot) refuseNetwork(name, field, summary string, err error, advice string) error {
	e := refusal(summary, err, advice, networkRange(b.machine, name, field))
	e.Err = fmt.Errorf("network %q: %w", name, err)
	return e
}

// networkRange is where the machine file says something of a network that a
// machine is on: "address" and "" at the machine, else at the network's block.
func networkRange(m *machinefile.Machine, name, field string) hcl.Range {
	for _, at := range m.Networks {
		switch {
		case at.Network.Name != name:
		case field == "" || field == "address":
			return at.Range
		default:
			return at.Network.RangeOf(field)
		}
	}
	return m.Range
}

// operation is what the machines of one up or reload share.
type operation struct {
	looks    bool                   // makes nothing, asks nobody and says nothing
	all      []*machinefile.Machine // the whole machine file
	replaced map[string]bool        // machines that are made anew

	mu         sync.Mutex
	asked      map[string]*answer
	interfaces map[string]string // chosen for bridged networks
}

type answer struct {
	once sync.Once
	err  error
}

// once calls ask for the first who comes with the key, and gives its error to
// that one; those who come later get shared instead.
func (o *operation) once(key string, ask func() error, shared error) error {
	o.mu.Lock()
	if o.asked == nil {
		o.asked = map[string]*answer{}
	}
	a := o.asked[key]
	if a == nil {
		a = &answer{}
		o.asked[key] = a
	}
	o.mu.Unlock()
	first := false
	a.once.Do(func() {
		first = true
		a.err = ask()
	})
	if a.err != nil && !first {
		return shared
	}
	return a.err
}
