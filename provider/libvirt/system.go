package libvirt

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/hostctl/hostctl/provider"
)

// System is a libvirt that runs as a service: its guests have networks, and reach
// the world by a NAT network of the project's own. Forwards are not its work.
type System struct {
	*driver

	mu    sync.Mutex
	known map[string]knownAddress // by machine
}

var (
	_ provider.Provider          = (*System)(nil)
	_ provider.Console           = (*System)(nil)
	_ provider.Watcher           = (*System)(nil)
	_ provider.Dialer            = (*System)(nil)
	_ provider.NATAddresser      = (*System)(nil)
	_ provider.HostAddresser     = (*System)(nil)
	_ provider.HostOnlyNetworker = (*System)(nil)
	_ provider.Bridger           = (*System)(nil)
)

func (s *System) check(_ context.Context, d provider.Domain) error {
	for _, n := range d.NICs {
		if n.HostOnly != nil {
			if err := checkSubnet(*n.HostOnly); err != nil {
				return err
			}
		}
	}
	return nil
}

// remembered leaves out the forwards: they are the agent's, and change while the
// guest runs.
func (s *System) remembered(d provider.Domain) provider.Domain {
	d.Forwards = nil
	return d
}

// prepare reserves the guest's address, and finds out which interfaces are bridges.
func (s *System) prepare(ctx context.Context, d provider.Domain, had netip.Prefix) (cards, error) {
	c := cards{nat: had}
	if !d.NoNAT {
		var err error
		if c.nat, err = s.reserve(ctx, d.Name, d.ID, had); err != nil {
			return cards{}, err
		}
	}
	for _, n := range d.NICs {
		if n.HostOnly != nil {
			if _, err := s.EnsureNetwork(ctx, *n.HostOnly); err != nil {
				return cards{}, err
			}
		}
	}
	var err error
	c.bridges, err = s.bridges(ctx, d)
	return c, err
}

// boot makes or repairs the domain's networks and starts it. A guest that runs already
// gets networks back that somebody has removed under it.
func (s *System) boot(ctx context.Context, dom domain) error {
	r := dom.record
	if !r.Domain.NoNAT {
		nat, err := s.reserve(ctx, r.Domain.Name, r.Domain.ID, r.NAT)
		if err != nil {
			return err
		}
		if nat != r.NAT {
			// The network it had is in somebody else's use now.
			if err := s.noteNAT(ctx, dom, nat); err != nil {
				return err
			}
		}
	}
	for _, n := range r.Domain.NICs {
		if n.HostOnly != nil {
			if _, err := s.EnsureNetwork(ctx, *n.HostOnly); err != nil {
				return err
			}
		}
	}
	if dom.running() {
		if err := s.reattach(ctx, dom); err != nil {
			return fmt.Errorf("put %q back on its networks: %w", r.Domain.Name, err)
		}
	}
	return s.startDomain(ctx, dom, 0)
}

// release gives the machine's address back, and with the last machine's the network.
func (s *System) release(ctx context.Context, machine string) error {
	return s.unreserve(ctx, machine)
}
