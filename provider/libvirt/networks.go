package libvirt

import (
	"context"
	"fmt"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/network"
)

// libvirtNetwork is one of libvirt's networks.
type libvirtNetwork struct {
	rpc.Network
	definition libvirtxml.Network
	tag        tag // of hostctl's
	active     bool
}

// network looks for a network of the project's; one that there is not has no name.
func (s *System) network(ctx context.Context, name string) (libvirtNetwork, error) {
	n, err := call(ctx, s.conn, func(l *rpc.Libvirt) (rpc.Network, error) { return l.NetworkLookupByName(name) })
	if code(err) == rpc.ErrNoNetwork {
		return libvirtNetwork{}, nil
	}
	if err != nil {
		return libvirtNetwork{}, err
	}
	out, err := s.describe(ctx, n)
	if err == nil && out.exists() && out.tag.Project != s.cfg.ProjectID() {
		err = hint.Wrap(fmt.Errorf("libvirt's network %s is not hostctl's", name), "remove it: virsh net-destroy %s; virsh net-undefine %s", name, name)
	}
	return out, err
}

func (n libvirtNetwork) exists() bool { return n.Name != "" }

func (s *System) describe(ctx context.Context, n rpc.Network) (libvirtNetwork, error) {
	definition, err := call(ctx, s.conn, func(l *rpc.Libvirt) (string, error) { return l.NetworkGetXMLDesc(n, 0) })
	if code(err) == rpc.ErrNoNetwork {
		return libvirtNetwork{}, nil
	}
	if err != nil {
		return libvirtNetwork{}, err
	}
	active, err := call(ctx, s.conn, func(l *rpc.Libvirt) (int32, error) { return l.NetworkIsActive(n) })
	if code(err) == rpc.ErrNoNetwork {
		return libvirtNetwork{}, nil
	}
	if err != nil {
		return libvirtNetwork{}, err
	}
	out := libvirtNetwork{Network: n, active: active != 0}
	if err := out.definition.Unmarshal(definition); err != nil {
		return libvirtNetwork{}, fmt.Errorf("libvirt's network %s: %w", n.Name, err)
	}
	if out.definition.Metadata != nil {
		out.tag, _ = parseTag(out.definition.Metadata.XML)
	}
	return out, nil
}

// allNetworks lists libvirt's networks, whoever's they are.
func (s *System) allNetworks(ctx context.Context) ([]libvirtNetwork, error) {
	all, err := call(ctx, s.conn, func(l *rpc.Libvirt) ([]rpc.Network, error) {
		all, _, err := l.ConnectListAllNetworks(1, 0)
		return all, err
	})
	if err != nil {
		return nil, err
	}
	var out []libvirtNetwork
	for _, n := range all {
		d, err := s.describe(ctx, n)
		if err != nil {
			return nil, err
		}
		if d.exists() {
			out = append(out, d)
		}
	}
	return out, nil
}

// usedSubnets is what a new network must keep away from: libvirt's networks, also those
// that are stopped, and what this host itself uses, where that is libvirt's.
func (s *System) usedSubnets(ctx context.Context) ([]network.UsedSubnet, error) {
	var used []network.UsedSubnet
	if s.target.local() {
		var err error
		if used, err = network.UsedSubnets(ctx); err != nil {
			return nil, err
		}
	}
	all, err := s.allNetworks(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		if p, ok := subnetOf(n.definition); ok {
			used = append(used, network.UsedSubnet{Prefix: p, By: "libvirt's network " + n.Name})
		}
	}
	return used, nil
}

// makeNetwork defines a network and starts it. One that cannot be started is not
// left behind.
func (s *System) makeNetwork(ctx context.Context, definition string) error {
	n, err := call(ctx, s.conn, func(l *rpc.Libvirt) (rpc.Network, error) { return l.NetworkDefineXML(definition) })
	if err != nil {
		return err
	}
	if err := s.startNetwork(ctx, n); err != nil {
		// It may be starting still, when ctx has ended: forgotten only, it would
		// go on without a definition. The error says more than this one's.
		_ = s.removeNetwork(context.WithoutCancel(ctx), n)
		return err
	}
	return nil
}

func (s *System) startNetwork(ctx context.Context, n rpc.Network) error {
	err := do(ctx, s.conn, func(l *rpc.Libvirt) error { return l.NetworkCreate(n) })
	if err == nil || alreadyActive(err) {
		return nil
	}
	return err
}

// removeNetwork stops a network and forgets it.
func (s *System) removeNetwork(ctx context.Context, n rpc.Network) error {
	err := do(ctx, s.conn, func(l *rpc.Libvirt) error { return l.NetworkDestroy(n) })
	if err != nil && code(err) != rpc.ErrNoNetwork && code(err) != rpc.ErrOperationInvalid {
		return err
	}
	err = do(ctx, s.conn, func(l *rpc.Libvirt) error { return l.NetworkUndefine(n) })
	if code(err) == rpc.ErrNoNetwork {
		return nil
	}
	return err
}

// subnetTaken says that libvirt found something else of its host's in a network's
// subnet: it has no code of its own for that.
func subnetTaken(err error) bool {
	return code(err) == rpc.ErrInternalError && strings.Contains(err.Error(), "already in use by")
}
