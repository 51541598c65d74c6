package providertest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// LiveForwards implements [provider.Forwarder].
func (f *Fake) LiveForwards(ctx context.Context, name string) ([]network.Forward, error) {
	if err := f.begin(ctx, LiveForwards, name); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.running(name)
	if err != nil {
		return nil, err
	}
	return slices.Clone(d.Domain.Forwards), nil
}

// AddForward implements [provider.Forwarder]. The domain starts with the forward from
// then on.
func (f *Fake) AddForward(ctx context.Context, name string, fw network.Forward) error {
	if err := f.begin(ctx, AddForward, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.running(name)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(d.Domain.Forwards, func(o network.Forward) bool { return sameForward(o, fw) }) {
		return nil
	}
	if err := f.bind(ctx, fw); err != nil {
		return err
	}
	d.Domain.Forwards = append(slices.Clone(d.Domain.Forwards), fw)
	return f.save()
}

// RemoveForward implements [provider.Forwarder].
func (f *Fake) RemoveForward(ctx context.Context, name string, fw network.Forward) error {
	if err := f.begin(ctx, RemoveForward, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.running(name)
	if err != nil {
		return err
	}
	d.Domain.Forwards = slices.DeleteFunc(slices.Clone(d.Domain.Forwards), func(o network.Forward) bool { return sameForward(o, fw) })
	return f.save()
}

// sameForward compares what hypervisors know of a forward: not its name.
func sameForward(a, b network.Forward) bool {
	a.Name = b.Name
	return a == b
}

// running returns the domain if it runs; the caller holds the lock.
func (f *Fake) running(name string) (*fakeDomain, error) {
	d, err := f.find(name)
	if err != nil {
		return nil, err
	}
	if !d.Running {
		return nil, fmt.Errorf("domain %q is %w", name, provider.ErrNotRunning)
	}
	return d, nil
}

// EnsureNetwork implements [provider.HostOnlyNetworker].
func (f *Fake) EnsureNetwork(ctx context.Context, n provider.HostOnly) (provider.NetworkStatus, error) {
	if err := f.begin(ctx, EnsureNetwork, n.Name); err != nil {
		return provider.NetworkStatus{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return provider.NetworkStatus{}, err
	}
	if old, ok := f.kept.Networks[n.Name]; ok && old != n {
		if err := f.unused(n.Name); err != nil {
			return provider.NetworkStatus{}, err
		}
	}
	f.kept.Networks[n.Name] = n
	return provider.NetworkStatus{}, f.save()
}

// DeleteNetwork implements [provider.HostOnlyNetworker].
func (f *Fake) DeleteNetwork(ctx context.Context, name string) error {
	if err := f.begin(ctx, DeleteNetwork, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return err
	}
	if err := f.unused(name); err != nil {
		return err
	}
	delete(f.kept.Networks, name)
	return f.save()
}

// Networks implements [provider.HostOnlyNetworker].
func (f *Fake) Networks(ctx context.Context) (map[string]bool, error) {
	if err := f.begin(ctx, Networks, ""); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return nil, err
	}
	works := make(map[string]bool)
	for name := range f.kept.Networks {
		works[name] = true
	}
	return works, nil
}

// LoseNetwork removes a network as somebody else would, with machines on it.
func (f *Fake) LoseNetwork(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return err
	}
	delete(f.kept.Networks, name)
	return f.save()
}

// unused fails when a domain runs on the network; the caller holds the lock.
func (f *Fake) unused(network string) error {
	for _, name := range slices.Sorted(maps.Keys(f.kept.Domains)) {
		d := f.kept.Domains[name]
		on := func(n provider.NIC) bool { return n.HostOnly != nil && n.Network == network }
		if d.Running && slices.ContainsFunc(d.Domain.NICs, on) {
			return fmt.Errorf("network %q: %s %w on it", network, name, provider.ErrRunning)
		}
	}
	return nil
}

// CheckHostAddress implements [provider.HostAddresser].
func (f *Fake) CheckHostAddress() error { return nil }

// HostAddress implements [provider.HostAddresser]: its guests are on this host's
// loopback.
func (f *Fake) HostAddress(_ context.Context, name string) (provider.HostAddress, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.find(name)
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return provider.HostAddress{Guest: loopback, Listen: loopback}, err
}
