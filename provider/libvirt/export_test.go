package libvirt

import (
	"context"
	"net/netip"

	rpc "github.com/digitalocean/go-libvirt"
)

// UpdateHost adds or deletes a reservation of the project's NAT network.
func (s *System) UpdateHost(ctx context.Context, add bool, name, mac string, addr netip.Addr) error {
	n, err := s.network(ctx, natNetworkName(s.cfg.ProjectID()))
	if err != nil {
		return err
	}
	command := rpc.NetworkUpdateCommandDelete
	if add {
		command = rpc.NetworkUpdateCommandAddLast
	}
	return s.updateHost(ctx, n.Network, command, host(name, mac, addr))
}
