//go:build !linux

package network

import (
	"context"
	"net"
)

// HostInterfaces lists the interfaces that a bridged network can use, with the
// labels that people know them by, the one of the default route first.
func HostInterfaces(ctx context.Context) ([]Interface, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	labelOf := labels(ctx)
	var out []Interface
	for _, i := range ifaces {
		label, known := labelOf(i.Name)
		if !known || i.Flags&net.FlagUp == 0 || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 || len(i.HardwareAddr) != 6 {
			continue
		}
		out = append(out, Interface{Name: i.Name, Label: label})
	}
	return out, sortByWayOut(ctx, out)
}
