//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package network

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	xroute "golang.org/x/net/route"
)

// routes lists the IPv4 routes, in the kernel's order.
func routes(context.Context) ([]route, error) {
	rib, err := xroute.FetchRIB(syscall.AF_INET, xroute.RIBTypeRoute, 0)
	if err != nil {
		return nil, err
	}
	msgs, err := xroute.ParseRIB(xroute.RIBTypeRoute, rib)
	if err != nil {
		return nil, err
	}
	var out []route
	for _, m := range msgs {
		r, ok := m.(*xroute.RouteMessage)
		if !ok || r.Flags&syscall.RTF_UP == 0 || r.Flags&(syscall.RTF_REJECT|syscall.RTF_BLACKHOLE) != 0 {
			continue
		}
		dst, ok := destination(r)
		if !ok {
			continue
		}
		// An interface that is gone by now has no routes either.
		if i, err := net.InterfaceByIndex(r.Index); err == nil {
			out = append(out, route{dst: dst, iface: i.Name})
		}
	}
	return out, nil
}

func destination(r *xroute.RouteMessage) (netip.Prefix, bool) {
	if len(r.Addrs) <= syscall.RTAX_DST {
		return netip.Prefix{}, false
	}
	dst, ok := r.Addrs[syscall.RTAX_DST].(*xroute.Inet4Addr)
	if !ok {
		return netip.Prefix{}, false
	}
	bits := 32 // a route to one host has no mask
	if r.Flags&syscall.RTF_HOST == 0 && len(r.Addrs) > syscall.RTAX_NETMASK {
		// The default route's mask is absent or empty.
		bits = 0
		if mask, ok := r.Addrs[syscall.RTAX_NETMASK].(*xroute.Inet4Addr); ok {
			bits, _ = net.IPMask(mask.IP[:]).Size()
		}
	}
	p, err := netip.AddrFrom4(dst.IP).Prefix(bits)
	return p, err == nil
}
