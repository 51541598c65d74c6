package machinefile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// decodeAttachments reads the networks that a machine is on, in file order.
func (l *loader) decodeAttachments(blocks []labelledBlock, m *Machine, s *scope) {
	reported := map[mistake]bool{}
	on := make(map[string]hcl.Range, len(blocks))
	for _, block := range blocks {
		if first, ok := on[block.label]; ok {
			l.errorf(block.labelRange, "Duplicate network", "The machine is already on the network %s (line %d).", quote(block.label), first.Start.Line)
			continue
		}
		on[block.label] = block.header
		before := len(l.diags)
		m.Networks = append(m.Networks, l.decodeAttachment(block, s))
		l.diags = append(l.diags[:before], onlyNew(l.diags[before:], reported)...)
	}
}

func (l *loader) decodeAttachment(block labelledBlock, s *scope) Attachment {
	a := &arguments{l: l, scope: s, attrs: block.attrs, header: block.header}
	at := Attachment{Network: l.networks[block.label], Range: block.header}
	if at.Network == nil {
		l.errorf(block.labelRange, "Unknown network", "%s", l.unknownNetwork(block.label))
		at.Network = &Network{Name: block.label} // of an unknown network nothing follows
	}
	if attr, ok := block.attrs["address"]; ok && a.set("address") {
		at.Range = attr.Expr.Range()
	}
	if at.Network.Kind == Bridged {
		a.notFor("address", fmt.Sprintf("%s is a bridged network: there the machine gets its address from the LAN's DHCP server. Leave this out.", quote(block.label)))
		return at
	}
	a.address(at.Network, &at.Address)
	return at
}

// unknownNetwork says what to do about a network that is not declared.
func (l *loader) unknownNetwork(name string) string {
	if len(l.networks) == 0 {
		return fmt.Sprintf(`No network %s is declared. Declare it outside of the machine block, as in network "hostonly" %s { cidr = %s }.`, quote(name), quote(name), quote(exampleSubnet))
	}
	names := slices.Sorted(maps.Keys(l.networks))
	if hint := suggest(name, names); hint != "" {
		return fmt.Sprintf("No network %s is declared.%s", quote(name), hint)
	}
	return fmt.Sprintf("No network %s is declared; this file has %s.", quote(name), list(quoteAll(names), "and"))
}

// address reads a machine's address on a host-only network. The network's
// subnet is unknown when it is wrong, which has been reported.
func (a *arguments) address(n *Network, to *netip.Addr) {
	var text string
	if !a.text("address", &text) {
		return
	}
	addr, err := netip.ParseAddr(text)
	p := n.CIDR
	switch {
	case err != nil:
		hint := ""
		if prefix, err := netip.ParsePrefix(text); err == nil {
			hint = didYouMean(quote(prefix.Addr().String()))
		}
		a.fail("address", "Invalid address", "address must be an IPv4 address such as %s: %s is none.%s", quote(exampleAddress(p)), quote(text), hint)
	case !addr.Is4():
		a.fail("address", "Invalid address", "address must be an IPv4 address such as %s: guests have IPv4 addresses only, and %s is IPv6.", quote(exampleAddress(p)), quote(text))
	case !p.IsValid():
	case !p.Contains(addr):
		a.fail("address", "Address outside its subnet", "%s is not in %s, the subnet of the network %s (line %d), which has %s.%s",
			addr, p, quote(n.Name), n.Range.Start.Line, usable(p), didYouMean(quoteNonEmpty(moved(p, addr))))
	case hostNumber(p, addr) == 0:
		a.fail("address", "Reserved address", "%s stands for the whole subnet. The machines of %s can have %s.", addr, quote(n.Name), usable(p))
	case hostNumber(p, addr) == 1:
		a.fail("address", "Reserved address", "%s, the first address of the network %s, is this computer's own. The machines can have %s.", addr, quote(n.Name), usable(p))
	case int(hostNumber(p, addr)) > room(p)+1:
		a.fail("address", "Reserved address", "%s is the subnet's broadcast address. The machines of %s can have %s.", addr, quote(n.Name), usable(p))
	default:
		*to = addr
	}
}

// usable names the addresses that machines can have in a subnet.
func usable(p netip.Prefix) string {
	return fmt.Sprintf("%s to %s", hostAddr(p, 2), hostAddr(p, uint32(room(p)+1)))
}

// exampleAddress is one in p, or in the subnet of the other examples.
func exampleAddress(p netip.Prefix) string {
	if !p.IsValid() {
		p = netip.MustParsePrefix(exampleSubnet)
	}
	return hostAddr(p, uint32(min(101, room(p)+1))).String()
}

// moved is addr with the numbers of the subnet p in front, when that is one
// that a machine can have, or "".
func moved(p netip.Prefix, addr netip.Addr) string {
	if p.Bits()%8 != 0 {
		return "" // nobody sees what such addresses have in common
	}
	own, err := addr.Prefix(p.Bits())
	if err != nil {
		return ""
	}
	number := hostNumber(own, addr)
	if number < 2 || int(number) > room(p)+1 {
		return ""
	}
	return hostAddr(p, number).String()
}

// addressKey is an address on a network.
type addressKey struct {
	network *Network
	addr    netip.Addr
}

// addressClaim is the machine that has an address.
type addressClaim struct {
	machine string
	at      hcl.Range
}

// claimAddresses refuses an address that another machine has, and counts the
// machines on each network.
func (l *loader) claimAddresses(m *Machine) {
	for _, at := range m.Networks {
		l.attached[at.Network]++
		if !at.Address.IsValid() {
			continue
		}
		key := addressKey{at.Network, at.Address}
		other, taken := l.addresses[key]
		if !taken {
			l.addresses[key] = addressClaim{m.Name, at.Range}
			continue
		}
		advice := "Use another, or leave the address out to have one assigned."
		if other.at == at.Range {
			advice = fmt.Sprintf("Give each machine its own, as in cidrhost(%s, %d + index), or leave the address out to have one assigned.",
				quote(at.Network.CIDR.String()), hostNumber(at.Network.CIDR, at.Address))
		}
		l.errorf(at.Range, "Address used twice", "%s on the network %s is already the address of %s (line %d). %s",
			at.Address, quote(at.Network.Name), quote(other.machine), other.at.Start.Line, advice)
	}
}

// checkRoom refuses a network that has fewer addresses than machines.
func (l *loader) checkRoom(networks []*Network) {
	for _, n := range networks {
		if !n.CIDR.IsValid() || l.attached[n] <= room(n.CIDR) {
			continue
		}
		p := n.CIDR
		for room(p) < l.attached[n] {
			p = netip.PrefixFrom(p.Addr(), p.Bits()-1)
		}
		l.errorf(n.RangeOf("cidr"), "Subnet is too small", "%d machines are on the network %s, and %s has room for %d beside the host. Use a larger subnet, of /%d or less.",
			l.attached[n], quote(n.Name), n.CIDR, room(n.CIDR), p.Bits())
	}
}

// checkNAT refuses a machine that nothing on this computer would reach: every
// machine has a forward at least for SSH.
func (a *arguments) checkNAT(m *Machine) {
	if m.NAT {
		return
	}
	switch m.Provider {
	case QEMUProvider:
		a.fail("nat", "Forwards need NAT", "With the provider %s, forwards go through NAT, and SSH and Docker with them. Leave nat = false out, or use provider = \"libvirt\".", quote(m.Provider))
	case LibvirtProvider:
		if slices.ContainsFunc(m.Networks, func(at Attachment) bool { return at.Network.Kind != Bridged }) {
			return
		}
		a.fail("nat", "Forwards need NAT", "Without NAT, forwards go through a host-only network, and this machine is on none: %s would have no way into the guest. Put the machine on a host-only network, or leave nat = false out.", m.ways())
	}
}

// ways lists what reaches the guest by forwards.
func (m *Machine) ways() string {
	ways := []string{"SSH"}
	if m.Docker.Enabled {
		ways = append(ways, "Docker")
	}
	var others []string
	for _, f := range m.Forwards {
		if f.GuestPort != sshPort && (!m.Docker.Enabled || f.GuestPort != m.Docker.Port) {
			others = append(others, f.Name)
		}
	}
	switch len(others) {
	case 0:
	case 1:
		ways = append(ways, "the forward "+quote(others[0]))
	default:
		ways = append(ways, fmt.Sprintf("%d forwards", len(others)))
	}
	return list(ways, "and")
}
