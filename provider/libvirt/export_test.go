package libvirt

import (
	"context"
	"net/netip"
	"time"

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

// ShareFile makes sure that the pool has a copy of a file.
func (s *System) ShareFile(ctx context.Context, file string, patience time.Duration) error {
	name, err := sharedName(basePrefix, file)
	if err != nil {
		return err
	}
	p, err := s.pool(ctx, "")
	if err != nil {
		return err
	}
	return p.share(ctx, name, file, patience)
}

// SharedName is the name of that copy.
func SharedName(file string) (string, error) { return sharedName(basePrefix, file) }
