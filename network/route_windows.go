package network

import (
	"cmp"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

// routes lists the IPv4 routes, those with the lowest metric first.
func routes(context.Context) ([]route, error) {
	var table *windows.MibIpForwardTable2
	if err := windows.GetIpForwardTable2(windows.AF_INET, &table); err != nil {
		return nil, err
	}
	defer windows.FreeMibTable(unsafe.Pointer(table))
	rows := slices.Clone(table.Rows())
	slices.SortStableFunc(rows, func(a, b windows.MibIpForwardRow2) int { return cmp.Compare(a.Metric, b.Metric) })
	var out []route
	for i := range rows {
		// Data holds a sockaddr_in after its family and port: the address is
		// its first word, in network order.
		var ip [4]byte
		binary.NativeEndian.PutUint32(ip[:], rows[i].DestinationPrefix.Prefix.Data[0])
		dst, err := netip.AddrFrom4(ip).Prefix(int(rows[i].DestinationPrefix.PrefixLength))
		if err != nil || dst.Addr().IsMulticast() || dst == broadcast {
			continue
		}
		// An interface that is gone by now has no routes either.
		if in, err := net.InterfaceByIndex(int(rows[i].InterfaceIndex)); err == nil {
			out = append(out, route{dst: dst, iface: in.Name})
		}
	}
	return out, nil
}

var broadcast = netip.MustParsePrefix("255.255.255.255/32")
