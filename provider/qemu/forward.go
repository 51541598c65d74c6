package qemu

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hostctl/hostctl/internal/usernet"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// guestNAT is the address that QEMU's user network gives a guest by DHCP
// (-netdev user,dhcpstart=; QEMU 7.2's manual). Each guest has a network of its
// own.
var guestNAT = netip.AddrFrom4([4]byte{10, 0, 2, 15})

// NATAddress implements [provider.NATAddresser].
func (p *Provider) NATAddress(context.Context, string, string) (netip.Addr, error) {
	return guestNAT, nil
}

// LiveForwards implements [provider.Forwarder]. QEMU keeps no names.
func (p *Provider) LiveForwards(ctx context.Context, name string) ([]network.Forward, error) {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	m, _, err := p.monitor(ctx, name)
	if err != nil {
		return nil, err
	}
	defer m.conn.Close()
	return m.forwards(ctx)
}

// AddForward implements [provider.Forwarder]. It does not wait for its turn
// with Start and Stop: the monitor serves one client at a time.
func (p *Provider) AddForward(ctx context.Context, name string, f network.Forward) error {
	if err := usernet.Validate(f); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	m, d, err := p.monitor(ctx, name)
	if err != nil {
		return err
	}
	defer m.conn.Close()
	if d.NoNAT {
		return noNAT(f)
	}
	if there, err := m.hasForward(ctx, f); there || err != nil {
		return err
	}
	out, err := m.human(ctx, "hostfwd_add "+natID+" "+usernet.Rule(f))
	if err != nil || out == "" {
		return err
	}
	if rulePattern.MatchString(out) {
		return usernet.Explain(ctx, f, out)
	}
	return fmt.Errorf("forward %q: %s", f.Name, out)
}

// RemoveForward implements [provider.Forwarder].
func (p *Provider) RemoveForward(ctx context.Context, name string, f network.Forward) error {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	m, _, err := p.monitor(ctx, name)
	if err != nil {
		return err
	}
	defer m.conn.Close()
	// QEMU looks at the host's side only, and another forward may have it now.
	if there, err := m.hasForward(ctx, f); !there || err != nil {
		return err
	}
	out, err := m.human(ctx, fmt.Sprintf("hostfwd_remove %s %s:%s", natID, f.Protocol, f.HostAddr()))
	if err == nil && !strings.HasSuffix(out, " removed") {
		err = fmt.Errorf("forward %q: %s", f.Name, out)
	}
	return err
}

// monitor connects to a running domain's monitor; the caller closes it.
func (p *Provider) monitor(ctx context.Context, name string) (*qmp, provider.Domain, error) {
	if err := checkName(name); err != nil {
		return nil, provider.Domain{}, err
	}
	dir := p.dir(name)
	d, err := dir.load()
	if err != nil {
		return nil, d, err
	}
	v, running, err := find(ctx, dir, d.ID)
	if err != nil {
		return nil, d, err
	}
	if !running {
		return nil, d, fmt.Errorf("domain %q is %w", name, provider.ErrNotRunning)
	}
	m, err := dialQMP(ctx, v.socket(), d.ID)
	if err == nil {
		return m, d, nil
	}
	if gone, gerr := v.gone(ctx, d.ID); gone && gerr == nil {
		err = fmt.Errorf("domain %q is %w", name, provider.ErrNotRunning)
	}
	return nil, d, err
}

func (m *qmp) forwards(ctx context.Context) ([]network.Forward, error) {
	out, err := m.human(ctx, "info usernet")
	if err != nil {
		return nil, err
	}
	return usernet.Parse(out), nil
}

func (m *qmp) hasForward(ctx context.Context, f network.Forward) (bool, error) {
	live, err := m.forwards(ctx)
	for _, l := range live {
		if l.Name = f.Name; l == f {
			return true, err
		}
	}
	return false, err
}
