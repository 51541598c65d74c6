package lifecycle

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
)

// renderConfig makes the guest's first-boot configuration. It is the same at
// every call: the keys were made once.
func (b *boot) renderConfig(ctx context.Context) (string, error) {
	keys, err := b.engine.Project.Keys()
	if err != nil {
		return "", err
	}
	if err := b.engine.Project.MakeMachineDir(b.name); err != nil {
		return "", err
	}
	hostKey, err := b.engine.Project.HostKey(b.name)
	if err != nil {
		return "", err
	}
	if err := b.writeNames(); err != nil {
		return "", err
	}
	in, err := b.config(ctx)
	if err != nil {
		return "", err
	}
	in.AuthorizedKeys = []string{keys.Public}
	in.HostKey = cloudconfig.HostKey{Private: hostKey.Private, Public: hostKey.Public}
	out, err := cloudconfig.Render(in)
	if err != nil {
		return "", err
	}
	b.ignition = out.Ignition
	return "Ignition " + b.state.Image.Guest.IgnitionSpec, nil
}

// writeNames notes the names that a new guest is given. An older one was given
// those that the state has: at its first boot, or later over SSH.
func (b *boot) writeNames() error {
	if !b.fresh {
		return nil
	}
	return b.engine.Project.Update(func(s *project.State) error {
		b.state.Names = namesFor(s, b.name)
		s.Machines[b.name] = b.state
		return nil
	})
}

// Config is what a machine's guest is configured with at its first boot, but for
// its keys: as it was when the machine was made, or as the file would have it
// made now. Addresses that are not known before are left out.
func (e *Engine) Config(ctx context.Context, m *machinefile.Machine, g image.Guest) (cloudconfig.Input, error) {
	state, err := e.Project.Load()
	if err != nil {
		return cloudconfig.Input{}, err
	}
	b := &boot{job: e.job(m.Name), machine: m, op: &operation{all: []*machinefile.Machine{m}}}
	if err := b.look(ctx, state); err != nil {
		return cloudconfig.Input{}, err
	}
	if b.plan.State == NotCreated {
		b.state = project.MachineState{Provider: m.Provider, Spec: specOf(m), Image: image.Image{Guest: g}}
		for _, n := range b.state.Spec.Networks {
			if n.Address.IsValid() {
				nic := project.NIC{Network: n.Name, MAC: "52:54:00:00:00:00", CIDR: n.CIDR, Address: n.Address}
				b.state.NICs = append(b.state.NICs, nic)
			}
		}
	}
	return b.config(ctx)
}

// config is the guest's configuration but for its keys.
func (b *boot) config(ctx context.Context) (cloudconfig.Input, error) {
	spec := b.state.Spec
	in := cloudconfig.Input{
		Hostname:   b.name,
		DockerPort: spec.DockerPort,
		Guest:      b.state.Image.Guest,
		Hosts:      hosts(b.state.Names),
	}
	var err error
	if in.NICs, err = cards(b.state.NICs); err != nil {
		return in, err
	}
	if bridged(spec) && !spec.DockerInsecure {
		in.DockerAddresses, err = b.dockerAddresses(ctx)
	}
	return in, err
}

// dockerAddresses are the guest's addresses that only this host and the
// project's machines reach. Whoever reaches Docker's port is root in the guest,
// and a bridged network is full of strangers.
func (b *boot) dockerAddresses(ctx context.Context) ([]netip.Addr, error) {
	out := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if p, ok := provider.As[provider.NATAddresser](b.provider); ok && !b.state.Spec.NoNAT {
		a, err := p.NATAddress(ctx, b.name, b.state.DomainID)
		switch {
		case err == nil:
			out = append(out, a)
		case b.state.DomainID != "": // else nothing was reserved yet
			return nil, err
		}
	}
	for _, nic := range b.state.NICs {
		if nic.Address.IsValid() {
			out = append(out, nic.Address)
		}
	}
	return out, nil
}

// tellDocker has a guest with a bridged network offer Docker where this host reaches
// it. Ignition wrote that once, and the NAT network gets another subnet when it was
// removed and its own is in use elsewhere.
func (b *boot) tellDocker(ctx context.Context, target sshclient.Target) error {
	spec := b.state.Spec
	if spec.DockerPort == 0 || spec.DockerInsecure || !bridged(spec) {
		return nil
	}
	addresses, err := b.dockerAddresses(ctx)
	if err != nil || slices.Equal(addresses, b.state.DockerAddresses) {
		return err
	}
	// Until it is done nobody knows which of the two the guest has.
	if err := b.noteDockerAddresses(ctx, nil); err != nil {
		return err
	}
	unit := cloudconfig.DockerSocket(spec.DockerPort, addresses)
	if err := b.engine.tell(ctx, target, cloudconfig.DockerSocketCommand, unit); err != nil {
		return fmt.Errorf("write docker-tcp.socket: %w", err)
	}
	return b.noteDockerAddresses(ctx, addresses)
}

func (b *boot) noteDockerAddresses(ctx context.Context, addresses []netip.Addr) error {
	ms, err := b.engine.note(ctx, b.name, b.state.DomainID, func(ms *project.MachineState) { ms.DockerAddresses = addresses })
	if err == nil {
		b.state = ms
	}
	return err
}

// cards are the network cards with addresses of their own. The others ask DHCP,
// as every image does of itself.
func cards(nics []project.NIC) ([]cloudconfig.NIC, error) {
	var out []cloudconfig.NIC
	for _, n := range nics {
		if !n.CIDR.IsValid() {
			continue
		}
		mac, err := net.ParseMAC(n.MAC)
		if err != nil {
			return nil, fmt.Errorf("network %q: %w", n.Network, err)
		}
		out = append(out, cloudconfig.NIC{Name: n.Network, MAC: mac, Addresses: []netip.Prefix{netip.PrefixFrom(n.Address, n.CIDR.Bits())}})
	}
	return out, nil
}
