package libvirt

import (
	"context"
	"fmt"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/hostctl/hostctl/provider"
)

// checkSubnet refuses a subnet that no network can have.
func checkSubnet(n provider.HostOnly) error {
	if !n.CIDR.Addr().Is4() || n.CIDR.Bits() > 30 || n.CIDR.Bits() < 8 {
		return &provider.FieldError{Field: "cidr", Network: n.Name, Err: fmt.Errorf("%s is not an IPv4 subnet of /8 to /30", n.CIDR)}
	}
	return nil
}

// EnsureNetwork implements [provider.HostOnlyNetworker].
func (s *System) EnsureNetwork(ctx context.Context, n provider.HostOnly) (provider.NetworkStatus, error) {
	if err := checkSubnet(n); err != nil {
		return provider.NetworkStatus{}, err
	}
	release, err := s.acquire(ctx, "network "+n.Name)
	if err != nil {
		return provider.NetworkStatus{}, err
	}
	defer release()
	project := s.cfg.ProjectID()
	have, err := s.network(ctx, hostOnlyNetworkName(project, n.Name))
	if err != nil {
		return provider.NetworkStatus{}, err
	}
	status := s.hostReach()
	if have.exists() {
		subnet, _ := subnetOf(have.definition)
		if subnet != n.CIDR.Masked() {
			if err := s.unused(ctx, n.Name); err != nil {
				return provider.NetworkStatus{}, err
			}
			if err := s.removeNetwork(ctx, have.Network); err != nil {
				return provider.NetworkStatus{}, fmt.Errorf("network %q: %w", n.Name, err)
			}
			have = libvirtNetwork{}
		}
	}
	switch {
	case have.active:
		return status, nil
	case have.exists():
		err = s.startNetwork(ctx, have.Network)
	default:
		var definition string
		if definition, err = hostOnlyXML(project, n.Name, n.CIDR.Masked()); err == nil {
			err = s.makeNetwork(ctx, definition)
		}
	}
	if subnetTaken(err) {
		return provider.NetworkStatus{}, &provider.FieldError{
			Field: "cidr", Network: n.Name, Err: fmt.Errorf("%s is in use on libvirt's host: %w", n.CIDR, err),
			Advice: "choose another subnet",
		}
	}
	if err != nil {
		return provider.NetworkStatus{}, fmt.Errorf("network %q: %w", n.Name, err)
	}
	return status, nil
}

// hostReach says how this host gets to the guests of a network.
func (s *System) hostReach() provider.NetworkStatus {
	if s.target.local() {
		return provider.NetworkStatus{HostReach: true}
	}
	return provider.NetworkStatus{Notice: fmt.Sprintf("host-only networks are on %s, which reaches the guests at their addresses; this host reaches them by forwards", s.target.host)}
}

// DeleteNetwork implements [provider.HostOnlyNetworker].
func (s *System) DeleteNetwork(ctx context.Context, name string) error {
	release, err := s.acquire(ctx, "network "+name)
	if err != nil {
		return err
	}
	defer release()
	project := s.cfg.ProjectID()
	if project == "" {
		return nil
	}
	n, err := s.network(ctx, hostOnlyNetworkName(project, name))
	if err != nil || !n.exists() {
		return err
	}
	if err := s.unused(ctx, name); err != nil {
		return err
	}
	return s.removeNetwork(ctx, n.Network)
}

// Networks implements [provider.HostOnlyNetworker].
func (s *System) Networks(ctx context.Context) (map[string]bool, error) {
	project := s.cfg.ProjectID()
	if project == "" {
		return nil, nil
	}
	all, err := s.allNetworks(ctx)
	if err != nil {
		return nil, err
	}
	works := make(map[string]bool)
	for _, n := range all {
		if n.tag.Project == project && n.tag.Network != "" {
			works[n.tag.Network] = n.active
		}
	}
	return works, nil
}

// unused fails when one of the project's domains runs on the host-only network.
func (s *System) unused(ctx context.Context, name string) error {
	all, err := s.domains(ctx, domainName(s.cfg.ProjectID(), ""))
	if err != nil {
		return err
	}
	for _, dom := range all {
		found, err := s.inspect(ctx, dom)
		if code(err) == rpc.ErrNoDomain {
			continue
		}
		if err != nil {
			return err
		}
		for _, n := range found.record.Domain.NICs {
			if found.running() && n.HostOnly != nil && n.Network == name {
				return fmt.Errorf("network %q: %s %w on it", name, found.record.Domain.Name, provider.ErrRunning)
			}
		}
	}
	return nil
}
