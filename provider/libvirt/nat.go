package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// NATAddress implements [provider.NATAddresser].
func (s *System) NATAddress(ctx context.Context, name, id string) (netip.Addr, error) {
	if err := checkName(name); err != nil {
		return netip.Addr{}, err
	}
	if s.cfg.ProjectID() == "" {
		return netip.Addr{}, errors.New("the project has no identity yet")
	}
	dom, err := s.find(ctx, name)
	if err != nil && !errors.Is(err, provider.ErrNotFound) {
		return netip.Addr{}, err
	}
	p, err := s.reserve(ctx, name, id, dom.record.NAT)
	return p.Addr(), err
}

// reserve makes sure that the project's NAT network is there and works, and that it
// gives the machine's card always the same address, had if that can be. It returns
// the address with the size of the network.
func (s *System) reserve(ctx context.Context, name, id string, had netip.Prefix) (netip.Prefix, error) {
	release, err := s.acquire(ctx, "NAT network")
	if err != nil {
		return netip.Prefix{}, err
	}
	defer release()
	mac := network.MAC(id, "").String()
	n, err := s.ensureNAT(ctx, func(subnet netip.Prefix, taken []netip.Addr) (libvirtxml.NetworkDHCPHost, error) {
		addrs, err := network.AssignAddresses(subnet, taken, []netip.Addr{had.Addr()})
		if err != nil {
			return libvirtxml.NetworkDHCPHost{}, err
		}
		return host(name, mac, addrs[0]), nil
	})
	if err != nil {
		return netip.Prefix{}, err
	}
	subnet, ok := subnetOf(n.definition)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("libvirt's network %s has no subnet", n.Name)
	}
	var taken []netip.Addr
	for _, h := range hosts(n.definition) {
		addr, err := netip.ParseAddr(h.IP)
		switch {
		case err != nil:
		case h.Name == name && strings.EqualFold(h.MAC, mac):
			return netip.PrefixFrom(addr, subnet.Bits()), nil
		case h.Name == name: // of a machine that is gone
			if err := s.updateHost(ctx, n.Network, rpc.NetworkUpdateCommandDelete, h); err != nil {
				return netip.Prefix{}, err
			}
		default:
			taken = append(taken, addr)
		}
	}
	addrs, err := network.AssignAddresses(subnet, taken, []netip.Addr{had.Addr()})
	if err != nil {
		return netip.Prefix{}, err
	}
	err = s.updateHost(ctx, n.Network, rpc.NetworkUpdateCommandAddLast, host(name, mac, addrs[0]))
	return netip.PrefixFrom(addrs[0], subnet.Bits()), err
}

// unreserve gives back the machine's address, and removes the network once it has
// neither addresses to give nor domains.
func (s *System) unreserve(ctx context.Context, name string) error {
	release, err := s.acquire(ctx, "NAT network")
	if err != nil {
		return err
	}
	defer release()
	n, err := s.network(ctx, natNetworkName(s.cfg.ProjectID()))
	if err != nil || !n.exists() {
		return err
	}
	left, err := s.domains(ctx, domainName(s.cfg.ProjectID(), ""))
	if err != nil {
		return err
	}
	reserved := hosts(n.definition)
	if len(left) == 0 && !slices.ContainsFunc(reserved, func(h libvirtxml.NetworkDHCPHost) bool { return h.Name != name }) {
		return s.removeNetwork(ctx, n.Network)
	}
	for _, h := range reserved {
		if h.Name != name {
			continue
		}
		if err := s.updateHost(ctx, n.Network, rpc.NetworkUpdateCommandDelete, h); err != nil {
			return err
		}
	}
	return nil
}

func hosts(x libvirtxml.Network) []libvirtxml.NetworkDHCPHost {
	for _, ip := range x.IPs {
		if ip.DHCP != nil {
			return ip.DHCP.Hosts
		}
	}
	return nil
}

func host(name, mac string, addr netip.Addr) libvirtxml.NetworkDHCPHost {
	return libvirtxml.NetworkDHCPHost{Name: name, MAC: mac, IP: addr.String()}
}

// updateHost changes one reservation, now and for the network's next start. What is
// so already is fine.
func (s *System) updateHost(ctx context.Context, n rpc.Network, command rpc.NetworkUpdateCommand, h libvirtxml.NetworkDHCPHost) error {
	element, err := xml.Marshal(h)
	if err != nil {
		return err
	}
	err = do(ctx, s.conn, func(l *rpc.Libvirt) error {
		return l.NetworkUpdateCompat(n, command, rpc.NetworkSectionIPDhcpHost, -1, string(element), rpc.NetworkUpdateAffectLive|rpc.NetworkUpdateAffectConfig)
	})
	if code(err) == rpc.ErrOperationInvalid && s.isReserved(ctx, n, h) == (command != rpc.NetworkUpdateCommandDelete) {
		return nil // there already, or gone already
	}
	if err != nil {
		return fmt.Errorf("reserve %s for %q: %w", h.IP, h.Name, err)
	}
	return nil
}

// isReserved looks whether the network has the reservation: the code for one that
// is there already stands for many things, such as a network that was stopped.
func (s *System) isReserved(ctx context.Context, n rpc.Network, h libvirtxml.NetworkDHCPHost) bool {
	now, err := s.network(ctx, n.Name)
	return err == nil && slices.ContainsFunc(hosts(now.definition), func(r libvirtxml.NetworkDHCPHost) bool {
		return r.Name == h.Name && r.IP == h.IP && strings.EqualFold(r.MAC, h.MAC)
	})
}

// newHost makes a reservation in a subnet, for an address that is not taken.
type newHost func(subnet netip.Prefix, taken []netip.Addr) (libvirtxml.NetworkDHCPHost, error)

// ensureNAT returns the network, active. One that somebody removed is made again as
// it was, from what the domains know of it. A new one has the reservation of the
// machine that needs it: libvirt takes all its firewall's rules away and makes them
// anew when one is added later, by some forty calls of iptables.
func (s *System) ensureNAT(ctx context.Context, add newHost) (libvirtNetwork, error) {
	project := s.cfg.ProjectID()
	name := natNetworkName(project)
	n, err := s.network(ctx, name)
	if err != nil {
		return libvirtNetwork{}, err
	}
	switch {
	case n.active:
		return n, nil
	case n.exists():
		if err := s.startNetwork(ctx, n.Network); err != nil {
			return libvirtNetwork{}, hint.Wrap(fmt.Errorf("start the project's NAT network: %w", err),
				"if its subnet is in use elsewhere, remove it and it is made anew: virsh net-undefine %s", name)
		}
		n.active = true
		return n, nil
	}
	records, err := s.records(ctx, project)
	if err != nil {
		return libvirtNetwork{}, err
	}
	if err := s.makeNAT(ctx, project, records, add); err != nil {
		return libvirtNetwork{}, fmt.Errorf("make the project's NAT network: %w", err)
	}
	return s.network(ctx, name)
}

// makeNAT chooses a subnet. libvirt refuses one that its host uses, which only it
// knows when it is another host, or that another project took a moment ago.
func (s *System) makeNAT(ctx context.Context, project string, records []record, add newHost) error {
	used, err := s.usedSubnets(ctx)
	if err != nil {
		return err
	}
	const attempts = 16
	for attempt := 0; ; attempt++ {
		subnet, err := network.FreeSubnet(used, natSubnets(project, records)...)
		if err != nil {
			return err
		}
		var reserved []libvirtxml.NetworkDHCPHost
		var taken []netip.Addr
		for _, r := range records {
			if subnet.Contains(r.NAT.Addr()) {
				reserved = append(reserved, host(r.Domain.Name, network.MAC(r.Domain.ID, "").String(), r.NAT.Addr()))
				taken = append(taken, r.NAT.Addr())
			}
		}
		one, err := add(subnet, taken)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(reserved, func(h libvirtxml.NetworkDHCPHost) bool { return h.Name == one.Name }) {
			reserved = append(reserved, one)
		}
		definition, err := natXML(project, subnet, reserved)
		if err != nil {
			return err
		}
		err = s.makeNetwork(ctx, definition)
		if err == nil || !subnetTaken(err) || attempt == attempts {
			return err
		}
		used = append(used, network.UsedSubnet{Prefix: subnet, By: "libvirt's host"})
	}
}

// natSubnets are the project's candidates: what its domains have, else a few that
// differ between projects. Machine files like to have others for host-only networks.
func natSubnets(project string, records []record) []netip.Prefix {
	var all []netip.Prefix
	for _, r := range records {
		if r.NAT.IsValid() && !slices.Contains(all, r.NAT.Masked()) {
			all = append(all, r.NAT.Masked())
		}
	}
	const candidates = 64
	first := crc32.ChecksumIEEE([]byte(project)) % candidates
	for i := range uint32(candidates) {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 177, byte((first + i) % candidates), 0}), 24))
	}
	return all
}

// noteNAT changes a domain's record.
func (s *System) noteNAT(ctx context.Context, dom domain, nat netip.Prefix) error {
	dom.record.NAT = nat
	return s.setRecord(ctx, dom, dom.record)
}
