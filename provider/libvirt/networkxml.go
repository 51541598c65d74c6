package libvirt

import (
	"net/netip"

	"libvirt.org/go/libvirtxml"

	"github.com/hostctl/hostctl/network"
)

// natXML is the definition of the project's NAT network. Each guest has a
// reservation in its range.
func natXML(project string, subnet netip.Prefix, hosts []libvirtxml.NetworkDHCPHost) (string, error) {
	metadata, err := tag{Project: project}.element("network")
	if err != nil {
		return "", err
	}
	name := natNetworkName(project)
	first, last := dhcpRange(subnet)
	x := libvirtxml.Network{
		Name:     name,
		Metadata: &libvirtxml.NetworkMetadata{XML: metadata},
		Forward:  &libvirtxml.NetworkForward{Mode: "nat"},
		Bridge:   bridgeXML(name),
		IPs: []libvirtxml.NetworkIP{{
			Address: network.HostAddress(subnet).String(),
			Prefix:  uint(subnet.Bits()),
			DHCP: &libvirtxml.NetworkDHCP{
				Ranges: []libvirtxml.NetworkDHCPRange{{Start: first.String(), End: last.String()}},
				Hosts:  hosts,
			},
		}},
		// No host name with the address: the guest has one already, and would
		// start systemd-hostnamed to learn that, in the middle of its boot.
		DnsmasqOptions: &libvirtxml.NetworkDnsmasqOptions{Option: []libvirtxml.NetworkDnsmasqOption{{Value: "dhcp-option=12"}}},
	}
	return x.Marshal()
}

// hostOnlyXML is the definition of a host-only network: the host is on it, and
// nothing leads from it anywhere. Addresses are the guests' own affair.
func hostOnlyXML(project, name string, subnet netip.Prefix) (string, error) {
	metadata, err := tag{Project: project, Network: name}.element("network")
	if err != nil {
		return "", err
	}
	full := hostOnlyNetworkName(project, name)
	x := libvirtxml.Network{
		Name:     full,
		Metadata: &libvirtxml.NetworkMetadata{XML: metadata},
		Bridge:   bridgeXML(full),
		DNS:      &libvirtxml.NetworkDNS{Enable: "no"},
		IPs: []libvirtxml.NetworkIP{{
			Address: network.HostAddress(subnet).String(),
			Prefix:  uint(subnet.Bits()),
		}},
	}
	return x.Marshal()
}

// bridgeXML is a bridge that forwards from its first moment on.
func bridgeXML(name string) *libvirtxml.NetworkBridge {
	return &libvirtxml.NetworkBridge{Name: bridgeName(name), STP: "off", Delay: "0"}
}

// dhcpRange is all of the subnet but the network's, the host's and the broadcast
// address.
func dhcpRange(subnet netip.Prefix) (first, last netip.Addr) {
	first = network.HostAddress(subnet).Next()
	b := subnet.Masked().Addr().As4()
	for bit := subnet.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return first, netip.AddrFrom4(b).Prev()
}

// subnetOf is the subnet of a network's definition; false when it has none.
func subnetOf(x libvirtxml.Network) (netip.Prefix, bool) {
	for _, ip := range x.IPs {
		addr, err := netip.ParseAddr(ip.Address)
		if err != nil || !addr.Is4() {
			continue
		}
		bits := int(ip.Prefix)
		if ip.Netmask != "" {
			mask, err := netip.ParseAddr(ip.Netmask)
			if err != nil {
				continue
			}
			bits = ones(mask)
		}
		if p, err := addr.Prefix(bits); err == nil {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// ones counts the leading ones of a netmask.
func ones(mask netip.Addr) int {
	n := 0
	for _, b := range mask.As4() {
		for ; b&0x80 != 0; b <<= 1 {
			n++
		}
	}
	return n
}
