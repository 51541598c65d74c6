package libvirt

import (
	"context"
	"fmt"

	rpc "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"
)

// reattach puts the cards of a running guest back on networks that were stopped or
// removed under it. libvirt knows of such a card by its port, which went with the
// network.
func (s *System) reattach(ctx context.Context, dom domain) error {
	definition, err := call(ctx, s.conn, func(l *rpc.Libvirt) (string, error) { return l.DomainGetXMLDesc(dom.Domain, 0) })
	if err != nil {
		return err
	}
	var x libvirtxml.Domain
	if err := x.Unmarshal(definition); err != nil {
		return err
	}
	for _, card := range x.Devices.Interfaces {
		if card.Source == nil || card.Source.Network == nil || card.Source.Network.PortID == "" {
			continue
		}
		n, err := s.network(ctx, card.Source.Network.Network)
		if err != nil || !n.exists() {
			return err
		}
		lost, err := s.isLost(ctx, n, card)
		if err != nil {
			return err
		}
		if lost {
			if err := s.rejoin(ctx, n); err != nil {
				return fmt.Errorf("network %s: %w", n.Name, err)
			}
		}
	}
	return nil
}

// isLost reports whether the network does not know the card.
func (s *System) isLost(ctx context.Context, n libvirtNetwork, card libvirtxml.DomainInterface) (bool, error) {
	id, err := uuid.Parse(card.Source.Network.PortID)
	if err != nil {
		return false, err
	}
	_, err = call(ctx, s.conn, func(l *rpc.Libvirt) (rpc.NetworkPort, error) {
		return l.NetworkPortLookupByUUID(n.Network, rpc.UUID(id))
	})
	if code(err) == rpc.ErrNoNetworkPort {
		return true, nil
	}
	return false, err
}

// rejoin puts the cards of all the project's running guests on a network. libvirt
// moves a card only from one bridge to another, so the network gets a new one.
func (s *System) rejoin(ctx context.Context, n libvirtNetwork) error {
	s.log.InfoContext(ctx, "guests have lost their network", "network", n.Name)
	fresh := n.definition
	fresh.Bridge = &libvirtxml.NetworkBridge{Name: otherBridge(n), STP: "off", Delay: "0"}
	fresh.MAC = nil
	definition, err := fresh.Marshal()
	if err != nil {
		return err
	}
	if err := s.removeNetwork(ctx, n.Network); err != nil {
		return err
	}
	if err := s.makeNetwork(ctx, definition); err != nil {
		return err
	}
	all, err := s.domains(ctx, domainName(s.cfg.ProjectID(), ""))
	if err != nil {
		return err
	}
	for _, dom := range all {
		if err := s.moveCards(ctx, dom, n.Name); err != nil {
			return err
		}
	}
	return nil
}

// otherBridge is the one of two names that the network's bridge does not have.
func otherBridge(n libvirtNetwork) string {
	name := bridgeName(n.Name)
	if n.definition.Bridge != nil && n.definition.Bridge.Name == name {
		return name + "b"
	}
	return name
}

// moveCards puts a domain's cards on the network, if it runs and has any there.
func (s *System) moveCards(ctx context.Context, dom rpc.Domain, networkName string) error {
	definition, err := call(ctx, s.conn, func(l *rpc.Libvirt) (string, error) { return l.DomainGetXMLDesc(dom, 0) })
	if code(err) == rpc.ErrNoDomain {
		return nil
	}
	if err != nil {
		return err
	}
	var x libvirtxml.Domain
	if err := x.Unmarshal(definition); err != nil {
		return err
	}
	if x.ID == nil {
		return nil // it gets its cards when it starts
	}
	for _, card := range x.Devices.Interfaces {
		if card.Source == nil || card.Source.Network == nil || card.Source.Network.Network != networkName {
			continue
		}
		card.Source.Network.Bridge, card.Source.Network.PortID = "", ""
		element, err := card.Marshal()
		if err != nil {
			return err
		}
		err = do(ctx, s.conn, func(l *rpc.Libvirt) error { return l.DomainUpdateDeviceFlags(dom, element, rpc.DomainDeviceModifyLive) })
		if err != nil && code(err) != rpc.ErrOperationInvalid {
			return fmt.Errorf("move a card of %s: %w", dom.Name, err)
		}
	}
	return nil
}
