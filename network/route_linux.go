package network

import (
	"context"
	"errors"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routes lists the unicast IPv4 routes of all tables: WireGuard and others keep
// theirs in one of their own. Those to the world come in the order in which
// the kernel prefers them.
func routes(ctx context.Context) ([]route, error) {
	list, err := dump(ctx, func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Type: unix.RTN_UNICAST},
			netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	})
	if err != nil {
		return nil, err
	}
	names := make(map[int]string)
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range ifaces {
		names[i.Index] = i.Name
	}
	var out []route
	for _, r := range list {
		dst := world
		if r.Dst != nil {
			p, ok := maskedPrefix(r.Dst)
			if !ok {
				continue
			}
			dst = p
		}
		hops := []int{r.LinkIndex}
		for _, h := range r.MultiPath {
			hops = append(hops, h.LinkIndex)
		}
		for _, index := range hops {
			// A route whose interface is gone by now, or that leads over a
			// nexthop object, is nobody's.
			if name, ok := names[index]; ok {
				out = append(out, route{dst: dst, iface: name})
			}
		}
	}
	return out, nil
}

// dump repeats list until no change of the table came between.
func dump[T any](ctx context.Context, list func() ([]T, error)) ([]T, error) {
	for {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}
