package libvirt

import (
	"context"
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/internal/usernet"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// CheckHostAddress implements [provider.HostAddresser].
func (d *driver) CheckHostAddress() error {
	if !d.target.local() {
		return fmt.Errorf("the guests run on %s, and do not reach this computer", d.target.host)
	}
	return nil
}

// HostAddress implements [provider.HostAddresser]: the host has the first address
// of each of its networks.
func (s *System) HostAddress(ctx context.Context, name string) (provider.HostAddress, error) {
	if err := s.CheckHostAddress(); err != nil {
		return provider.HostAddress{}, err
	}
	dom, err := s.find(ctx, name)
	if err != nil {
		return provider.HostAddress{}, err
	}
	if nat := dom.record.NAT; nat.IsValid() && !dom.record.Domain.NoNAT {
		gateway := network.HostAddress(nat)
		return provider.HostAddress{Guest: gateway, Listen: gateway}, nil
	}
	for _, n := range dom.record.Domain.NICs {
		if n.HostOnly != nil {
			gateway := network.HostAddress(n.HostOnly.CIDR)
			return provider.HostAddress{Guest: gateway, Listen: gateway}, nil
		}
	}
	return provider.HostAddress{}, errors.New("the guest is on no network that this computer is on, too")
}

// HostAddress implements [provider.HostAddresser].
func (s *Session) HostAddress(ctx context.Context, name string) (provider.HostAddress, error) {
	if err := s.CheckHostAddress(); err != nil {
		return provider.HostAddress{}, err
	}
	dom, err := s.find(ctx, name)
	if err == nil && dom.record.Domain.NoNAT {
		err = errors.New("the guest is on no network that this computer is on, too")
	}
	return usernet.Host, err
}
