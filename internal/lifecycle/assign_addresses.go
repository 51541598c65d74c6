package lifecycle

import (
	"net/netip"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// assignNICs gives the machine its cards. An address that hostctl chose stays
// the machine's, however often it is made anew.
func (b *boot) assignNICs(s *project.State, ms project.MachineState) ([]project.NIC, error) {
	var out []project.NIC
	for _, n := range ms.Spec.Networks {
		old := nicOn(ms.NICs, n.Name)
		nic := project.NIC{Network: n.Name, MAC: network.MAC(ms.DomainID, n.Name).String(), CIDR: n.CIDR}
		switch {
		case !n.CIDR.IsValid():
			nic.Interface = b.interfaces[n.Name]
		case n.Address.IsValid():
			nic.Address = n.Address
		default:
			addrs, err := network.AssignAddresses(n.CIDR, b.takenAddresses(s, n), []netip.Addr{old.Address})
			if err != nil {
				return nil, atField(&provider.FieldError{Field: "cidr", Network: n.Name, Err: err, Advice: "use a larger subnet"}, b.machine)
			}
			nic.Address = addrs[0]
		}
		out = append(out, nic)
	}
	return out, nil
}

// takenAddresses are those that other machines have on the network, or that
// the file gives them.
func (b *boot) takenAddresses(s *project.State, n project.NetworkSpec) []netip.Addr {
	var taken []netip.Addr
	for name, ms := range s.Machines {
		if a := nicOn(ms.NICs, n.Name).Address; name != b.name && a.IsValid() {
			taken = append(taken, a)
		}
	}
	for _, m := range b.op.all {
		for _, at := range m.Networks {
			if m.Name != b.name && at.Network.Name == n.Name && at.Address.IsValid() {
				taken = append(taken, at.Address)
			}
		}
	}
	return taken
}

// nics are the domain's cards.
func nics(ms project.MachineState) []provider.NIC {
	var out []provider.NIC
	for _, n := range ms.NICs {
		nic := provider.NIC{Network: n.Network, MAC: n.MAC, Address: n.Address, Interface: n.Interface}
		if n.CIDR.IsValid() {
			nic.HostOnly = &provider.HostOnly{Name: n.Network, CIDR: n.CIDR}
		}
		out = append(out, nic)
	}
	return out
}

// hostOnly reports whether the machine is on a network with the host.
func hostOnly(ms project.MachineState) bool {
	for _, n := range ms.NICs {
		if n.CIDR.IsValid() {
			return true
		}
	}
	return false
}
