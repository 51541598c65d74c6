package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// UsedSubnet is an IPv4 subnet that this host has a use for already.
type UsedSubnet struct {
	Prefix netip.Prefix // masked
	By     string       // "interface docker0", or "route through tun0", a VPN's
	// Interface is the one that By names; "" when a caller filled in a subnet
	// that is no interface's.
	Interface string
}

// String returns "interface docker0 (172.17.0.0/16)".
func (u UsedSubnet) String() string { return fmt.Sprintf("%s (%s)", u.By, u.Prefix) }

// UsedSubnets lists the IPv4 subnets of this host's interfaces, up or down,
// and of its routes, of whatever table, that lead elsewhere. Routes that stand
// for all the world are no use of a subnet: default routes, and those that VPNs
// make beside them, such as 0.0.0.0/1 with 128.0.0.0/1.
func UsedSubnets(ctx context.Context) ([]UsedSubnet, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var used []UsedSubnet
	for _, i := range ifaces {
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("addresses of interface %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			p, ok := prefixOf(a)
			if !ok {
				continue
			}
			used = append(used, UsedSubnet{Prefix: p, By: "interface " + i.Name, Interface: i.Name})
		}
	}
	rs, err := routes(ctx)
	if err != nil {
		return nil, fmt.Errorf("routes of this host: %w", err)
	}
	for _, r := range rs {
		if r.everywhere() || slices.ContainsFunc(used, r.within) {
			continue
		}
		used = append(used, UsedSubnet{Prefix: r.dst, By: "route through " + r.iface, Interface: r.iface})
	}
	return used, nil
}

// route is an IPv4 route of this host.
type route struct {
	dst   netip.Prefix // masked
	iface string
}

// everywhere reports whether r stands for all the world, or is a part of routes
// that do together: VPNs cover it by two halves, or by eight pieces. No
// private network is larger than 10.0.0.0/8.
func (r route) everywhere() bool { return r.dst.Bits() < 8 }

// within reports whether r is the route, or a part of it, that an interface
// has for its own subnet.
func (r route) within(u UsedSubnet) bool {
	return r.iface == u.Interface && u.Prefix.Bits() <= r.dst.Bits() && u.Prefix.Contains(r.dst.Addr())
}

// prefixOf returns the subnet of an interface's IPv4 address.
func prefixOf(a net.Addr) (netip.Prefix, bool) {
	n, ok := a.(*net.IPNet)
	if !ok || n.IP.To4() == nil {
		return netip.Prefix{}, false
	}
	return maskedPrefix(n)
}

// maskedPrefix returns n without its host bits. It fails for what is no IPv4
// subnet.
func maskedPrefix(n *net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP.To4())
	ones, _ := n.Mask.Size()
	if !ok || len(n.Mask) != net.IPv4len {
		return netip.Prefix{}, false
	}
	p, err := addr.Prefix(ones)
	return p, err == nil
}

// Overlapping returns the use that p collides with: of several the smallest
// subnet, which says most, and of those the first.
func Overlapping(p netip.Prefix, used []UsedSubnet) (UsedSubnet, bool) {
	var found UsedSubnet
	ok := false
	for _, u := range used {
		if u.Prefix.Overlaps(p) && (!ok || u.Prefix.Bits() > found.Prefix.Bits()) {
			found, ok = u, true
		}
	}
	return found, ok
}

// guestSubnets are taken inside every guest: its Docker's bridge and QEMU's
// NAT network.
var guestSubnets = []netip.Prefix{
	netip.MustParsePrefix("172.17.0.0/16"),
	netip.MustParsePrefix("10.0.2.0/24"),
}

// ErrNoFreeSubnet is returned by [FreeSubnet].
var ErrNoFreeSubnet = errors.New("this host's interfaces and routes leave no private subnet free")

// FreeSubnet returns the first /24 that collides with nothing in used, nor
// with what every guest has: 172.17.0.0/16 (Docker) and 10.0.2.0/24 (QEMU). It
// looks among candidates first; of one that is larger, its first /24 counts.
// Then among
//
//   - 172.28.8.0/24, 172.29.8.0/24, 172.30.8.0/24, 172.31.8.0/24: where Docker
//     looks for room of its own last;
//   - 192.168.56.0/24 to 192.168.63.0/24: VirtualBox's own for this purpose,
//     which home routers do not use;
//   - 10.200.8.0/24 to 10.255.8.0/24, in steps of 0.1.0.0.
//
// With none left it returns [ErrNoFreeSubnet].
func FreeSubnet(used []UsedSubnet, candidates ...netip.Prefix) (netip.Prefix, error) {
	for _, c := range candidates {
		if !c.Addr().Is4() || c.Bits() > 24 {
			continue
		}
		if p := netip.PrefixFrom(c.Masked().Addr(), 24); isFree(p, used) {
			return p, nil
		}
	}
	for _, r := range []struct{ a, b, last byte }{{172, 28, 31}, {192, 56, 63}, {10, 200, 255}} {
		for n := int(r.b); n <= int(r.last); n++ {
			addr := [4]byte{r.a, byte(n), 8, 0}
			if r.a == 192 {
				addr = [4]byte{192, 168, byte(n), 0}
			}
			if p := netip.PrefixFrom(netip.AddrFrom4(addr), 24); isFree(p, used) {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, ErrNoFreeSubnet
}

func isFree(p netip.Prefix, used []UsedSubnet) bool {
	if slices.ContainsFunc(guestSubnets, p.Overlaps) {
		return false
	}
	_, taken := Overlapping(p, used)
	return !taken
}
