package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
)

// makeNetworks has the host-only networks of the machine there, each of them
// once in an operation.
func (b *boot) makeNetworks(ctx context.Context) (string, error) {
	p, ok := provider.As[provider.HostOnlyNetworker](b.provider)
	if !ok {
		return "", fmt.Errorf("the provider %q has no host-only networks", b.providerName())
	}
	var names []string
	for _, nic := range b.state.NICs {
		if !nic.CIDR.IsValid() {
			continue
		}
		n := provider.HostOnly{Name: nic.Network, CIDR: nic.CIDR}
		names = append(names, n.Name)
		err := b.op.once("make "+b.state.Provider+" "+n.Name, func() error { return b.makeNetwork(ctx, p, n) },
			fmt.Errorf("network %q: not made, as for another machine", n.Name))
		if err != nil {
			return "", err
		}
	}
	return strings.Join(names, ", "), nil
}

func (b *boot) makeNetwork(ctx context.Context, p provider.HostOnlyNetworker, n provider.HostOnly) error {
	status, err := p.EnsureNetwork(ctx, n)
	switch {
	case errors.Is(err, provider.ErrRunning):
		return hint.Wrap(fmt.Errorf("network %q: %w", n.Name, err), "hostctl halt, then hostctl up: the network is made anew with no machine on it")
	case err != nil:
		return fmt.Errorf("network %q: %w", n.Name, atField(err, b.machine))
	}
	if status.Notice != "" {
		b.engine.notice("%s", status.Notice)
	}
	return nil
}

// networksThere reports whether the host-only networks of a running machine
// work: somebody may have removed or stopped them behind its back. Each provider is asked
// once in an operation.
func (b *boot) networksThere(ctx context.Context) bool {
	if !hostOnly(b.state) {
		return true
	}
	p, ok := provider.As[provider.HostOnlyNetworker](b.provider)
	if !ok {
		return true
	}
	key := "networks " + b.state.Provider
	err := b.op.once(key, func() error {
		works, err := p.Networks(ctx)
		maps.DeleteFunc(works, func(_ string, works bool) bool { return !works })
		b.op.choose(key, strings.Join(slices.Collect(maps.Keys(works)), " "))
		return err
	}, errRefused)
	if err != nil {
		return false // why is for the steps to find out
	}
	there := strings.Fields(b.op.chosen(key))
	return !slices.ContainsFunc(b.state.NICs, func(n project.NIC) bool {
		return n.CIDR.IsValid() && !slices.Contains(there, n.Network)
	})
}
