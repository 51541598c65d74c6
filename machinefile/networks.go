package machinefile

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

var (
	networkKinds     = []string{HostOnly, Bridged}
	networkKindAlias = map[string]string{
		"host-only": HostOnly, "host_only": HostOnly, "private": HostOnly, "private_network": HostOnly, "internal": HostOnly,
		"bridge": Bridged, "public": Bridged, "public_network": Bridged,
	}
)

// networkName is what a network can be called: names become parts of the names
// of files and of the hypervisor's networks.
var networkName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

const maxNetworkName = 63

// Lengths of subnets: a /29 has room for the host and five machines.
const (
	minPrefix = 8
	maxPrefix = 29
)

// exampleSubnet is what messages suggest.
const exampleSubnet = "172.28.8.0/24"

// takenSubnets cannot be a host-only network's, whatever the host: the guests
// use them for something else.
var takenSubnets = []struct {
	prefix netip.Prefix
	use    string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "is no network's"},
	{netip.MustParsePrefix("10.0.2.0/24"), "is QEMU's NAT network, the guests' way to the world"},
	{netip.MustParsePrefix("127.0.0.0/8"), "is loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "is for link-local addresses"},
	// vagrant's coreos-vagrant had its machines in 172.17.8.0/24.
	{netip.MustParsePrefix("172.17.0.0/16"), "is docker0 in the guests, the network of their containers"},
	{netip.MustParsePrefix("224.0.0.0/4"), "is for multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "is reserved"},
}

// privateSubnets are nobody's on the Internet: RFC 1918, and those that RFC
// 6598, RFC 2544 and RFC 5737 set aside.
var privateSubnets = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
}

// declareNetworks notes the names and kinds, so that machines can be checked.
func (l *loader) declareNetworks(blocks hcl.Blocks) {
	folded := map[string]*Network{}
	for _, block := range blocks {
		n := &Network{Kind: block.Labels[0], Name: block.Labels[1], Range: block.DefRange}
		if !slices.Contains(networkKinds, n.Kind) {
			hint := suggest(n.Kind, networkKinds)
			if right, ok := networkKindAlias[strings.ToLower(n.Kind)]; ok {
				hint = didYouMean(quote(right))
			}
			l.errorf(block.LabelRanges[0], "Unknown kind of network", "%s is no kind of network, which are %s.%s", quote(n.Kind), list(quoteAll(networkKinds), "and"), hint)
			n.Kind = "" // of a wrong kind nothing follows
		}
		if why := networkNameFault(n.Name); why != "" {
			l.errorf(block.LabelRanges[1], "Invalid name", "The name of a network becomes part of the names of files: %s.", why)
		}
		fold := strings.ToLower(n.Name)
		switch first := folded[fold]; {
		case first == nil:
			folded[fold] = n
			l.networks[n.Name] = n
		case first.Name == n.Name:
			l.errorf(block.DefRange, "Duplicate network", "The network %s is already declared on line %d.", quote(n.Name), first.Range.Start.Line)
		default:
			l.errorf(block.DefRange, "Duplicate network",
				"The network %s differs from %s (line %d) only in the case of letters, which some file systems do not tell apart.",
				quote(n.Name), quote(first.Name), first.Range.Start.Line)
			l.networks[n.Name] = n
		}
	}
}

// networkNameFault says why a network cannot have the name, or "".
func networkNameFault(name string) string {
	switch {
	case len(name) > maxNetworkName:
		return fmt.Sprintf("it must have at most %d characters, not %d", maxNetworkName, len(name))
	case !networkName.MatchString(name):
		return "it must start with a letter and have only the letters a to z, digits, - and _"
	}
	return ""
}

func (l *loader) decodeNetworks(blocks hcl.Blocks, s *scope) []*Network {
	var networks []*Network
	for _, block := range blocks {
		n := l.networks[block.Labels[1]]
		if n == nil || n.Range != block.DefRange {
			n = &Network{Range: block.DefRange} // refused; its arguments are checked all the same
		}
		content, diags := block.Body.Content(networkSchema)
		l.diags = append(l.diags, diags...)
		a := &arguments{l: l, scope: s, attrs: content.Attributes, header: block.DefRange}
		n.ranges = a.ranges()
		switch block.Labels[0] {
		case HostOnly:
			a.require("cidr", "the network's subnet, such as "+quote(exampleSubnet))
			a.notFor("interface", "interface is for bridged networks: a host-only network is of the host and the machines alone.")
			l.subnet(a, n, networks)
		case Bridged:
			a.notFor("cidr", "cidr is for host-only networks: on a bridged one, the machines get their addresses from the LAN's DHCP server.")
			a.interfaces(&n.Interfaces)
		}
		networks = append(networks, n)
	}
	return networks
}

// notFor refuses an argument that another kind of block has.
func (a *arguments) notFor(name, detail string) {
	if a.set(name) {
		a.fail(name, "Unexpected argument", "%s", detail)
	}
}

// subnet reads the cidr of a host-only network. others are the networks above
// it in the file.
func (l *loader) subnet(a *arguments, n *Network, others []*Network) {
	var text string
	if !a.text("cidr", &text) {
		return
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		hint := ""
		if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() {
			hint = didYouMean(quote(netip.PrefixFrom(addr, 24).Masked().String()))
		}
		a.fail("cidr", "Invalid subnet", "cidr must be a subnet such as %s, an address and the number of bits that the machines have in common: %s is none.%s", quote(exampleSubnet), quote(text), hint)
		return
	}
	switch masked := prefix.Masked(); {
	case !prefix.Addr().Is4():
		a.fail("cidr", "Invalid subnet", "cidr must be an IPv4 subnet such as %s: guests have IPv4 addresses only, and %s is IPv6.", quote(exampleSubnet), quote(text))
		return
	case prefix.Bits() < minPrefix || prefix.Bits() > maxPrefix:
		a.fail("cidr", "Invalid subnet", "A host-only network is from /%d to /%d, which has room for the host and %d machines; %s is /%d.", minPrefix, maxPrefix, room(netip.PrefixFrom(prefix.Addr(), maxPrefix)), quote(text), prefix.Bits())
		return
	case prefix != masked:
		a.fail("cidr", "Invalid subnet", "%s is an address in a subnet, not the subnet.%s", quote(text), didYouMean(quote(masked.String())))
		return
	}
	for _, taken := range takenSubnets {
		if prefix.Overlaps(taken.prefix) {
			a.fail("cidr", "Subnet is taken", "%s overlaps %s, which %s. Use another subnet, such as %s.", prefix, taken.prefix, taken.use, quote(elsewhere(prefix)))
			return
		}
	}
	for _, other := range others {
		if other.CIDR.IsValid() && prefix.Overlaps(other.CIDR) {
			a.fail("cidr", "Networks overlap", "%s overlaps %s, the subnet of the network %s (line %d). Give each network a subnet of its own.",
				prefix, other.CIDR, quote(other.Name), other.Range.Start.Line)
			return
		}
	}
	if !slices.ContainsFunc(privateSubnets, func(p netip.Prefix) bool { return p.Bits() <= prefix.Bits() && p.Contains(prefix.Addr()) }) {
		a.fail("cidr", "Public subnet", "%s belongs to others on the Internet, whom neither this computer nor the guests will reach while the network is up. Subnets for private use are in 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16.", prefix)
		l.diags[len(l.diags)-1].Severity = hcl.DiagWarning
	}
	n.CIDR = prefix
}

// elsewhere returns a subnet like p that the guests have no other use for.
func elsewhere(p netip.Prefix) string {
	octets := p.Addr().As4()
	if p.Bits() < 16 || octets[0] != 10 && octets[0] != 172 {
		return exampleSubnet
	}
	octets[1] = 28
	return netip.PrefixFrom(netip.AddrFrom4(octets), p.Bits()).String()
}

// room is how many machines have an address in a subnet: it has one for
// itself, one for broadcasts, and one for the host.
func room(p netip.Prefix) int { return 1<<(32-p.Bits()) - 3 }

// hostNumber counts addr from the subnet's own address; addr is in p.
func hostNumber(p netip.Prefix, addr netip.Addr) uint32 {
	base, a := p.Addr().As4(), addr.As4()
	return binary.BigEndian.Uint32(a[:]) - binary.BigEndian.Uint32(base[:])
}

// hostAddr is the subnet's address with that number.
func hostAddr(p netip.Prefix, number uint32) netip.Addr {
	base := p.Addr().As4()
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(base[:])+number)
	return netip.AddrFrom4(a)
}

// interfaces reads one name or a list of names.
func (a *arguments) interfaces(to *[]string) {
	v, ok := a.get("interface", cty.DynamicPseudoType)
	if !ok {
		return
	}
	wrong := func() {
		a.fail("interface", "Wrong type of value", `interface must be the name of an interface of this computer, such as "eth0", or a list of names, of which the first that exists is used; not %s.`, describe(v))
	}
	ty := v.Type()
	if ty == cty.String {
		v = cty.TupleVal([]cty.Value{v})
	} else if !ty.IsListType() && !ty.IsTupleType() {
		wrong()
		return
	}
	names, err := convert.Convert(v, cty.List(cty.String))
	if err != nil {
		wrong()
		return
	}
	if names.LengthInt() == 0 {
		a.fail("interface", "Empty interface", "The list is empty. Leave interface out, or use null, to be asked.")
		return
	}
	for it := names.ElementIterator(); it.Next(); {
		_, name := it.Element()
		switch {
		case name.IsNull():
			wrong()
			return
		case strings.TrimSpace(name.AsString()) == "":
			a.fail("interface", "Empty interface", "%s is no interface's name. Leave interface out, or use null, to be asked.", quote(name.AsString()))
			return
		}
		*to = append(*to, name.AsString())
	}
}
