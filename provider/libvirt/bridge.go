package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"

	rpc "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// BridgeInterfaces implements [provider.Bridger].
func (s *System) BridgeInterfaces(ctx context.Context) ([]network.Interface, error) {
	if s.target.local() {
		return network.HostInterfaces(ctx)
	}
	return s.remoteInterfaces(ctx)
}

// remoteInterfaces asks libvirt for its host's interfaces. Bridges are known only
// where its interface driver is built in.
func (s *System) remoteInterfaces(ctx context.Context) ([]network.Interface, error) {
	active, err := call(ctx, s.conn, func(l *rpc.Libvirt) ([]rpc.Interface, error) {
		all, _, err := l.ConnectListAllInterfaces(1, rpc.ConnectListInterfacesActive)
		return all, err
	})
	if code(err) == rpc.ErrNoSupport {
		return nil, errors.New("libvirt's host does not tell its interfaces: name one in the machine file")
	}
	if err != nil {
		return nil, err
	}
	var all []network.Interface
	for _, i := range active {
		definition, err := call(ctx, s.conn, func(l *rpc.Libvirt) (string, error) { return l.InterfaceGetXMLDesc(i, 0) })
		if code(err) == rpc.ErrNoInterface {
			continue
		}
		if err != nil {
			return nil, err
		}
		var x libvirtxml.Interface
		if err := x.Unmarshal(definition); err != nil {
			return nil, fmt.Errorf("interface %s: %w", i.Name, err)
		}
		if i.Name == "lo" {
			continue
		}
		all = append(all, network.Interface{Name: i.Name, Bridge: x.Bridge != nil})
	}
	return all, nil
}

// bridges finds out which of the domain's interfaces are bridges. One that does not
// exist gives a *[provider.FieldError].
func (s *System) bridges(ctx context.Context, d provider.Domain) (map[string]bool, error) {
	found := map[string]bool{}
	var all []network.Interface
	for _, n := range d.NICs {
		if n.Interface == "" {
			continue
		}
		if all == nil {
			var err error
			if all, err = s.BridgeInterfaces(ctx); err != nil && s.target.local() {
				return nil, err
			}
		}
		for _, i := range all {
			if i.Name == n.Interface {
				found[i.Name] = i.Bridge
			}
		}
		if err := s.checkInterface(n); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// checkInterface looks whether this host, where it is libvirt's, has the interface.
func (s *System) checkInterface(n provider.NIC) error {
	if !s.target.local() {
		return nil // libvirt will say
	}
	if _, err := net.InterfaceByName(n.Interface); err != nil {
		return &provider.FieldError{
			Field: "interface", Network: n.Network, Err: fmt.Errorf("this host has no interface %q any more", n.Interface),
			Advice: "choose another, or leave interface out to be asked",
		}
	}
	return nil
}
