package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	"github.com/hostctl/hostctl/network/lan"
	"github.com/hostctl/hostctl/provider"
)

// lans are the project's host-only networks that are wires of this process.
// One stays, once it was needed: machines come and go.
type lans struct {
	log *slog.Logger

	mu       sync.Mutex
	networks map[provider.HostOnly]*lan.Network
}

// get returns the network, made when it is not there. One whose subnet has
// changed is another network.
func (l *lans) get(h provider.HostOnly) (*lan.Network, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, ok := l.networks[h]; ok {
		return n, nil
	}
	n, err := lan.New(h.CIDR.Masked(), l.log.With("network", h.Name))
	if err != nil {
		return nil, err
	}
	l.networks[h] = n
	return n, nil
}

func (l *lans) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.networks {
		n.Close()
	}
	clear(l.networks)
}

// plugs are the cards of one machine that are joined to networks.
type plugs struct {
	lans *lans

	mu     sync.Mutex
	joined map[provider.SwitchPort]plug
}

type plug struct {
	network *lan.Network
	mac     net.HardwareAddr
	pull    func()
}

// set joins exactly these ports.
func (p *plugs) set(ctx context.Context, ports []provider.SwitchPort) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for port, g := range p.joined {
		if !slices.Contains(ports, port) {
			g.pull()
			delete(p.joined, port)
		}
	}
	var errs []error
	for _, port := range ports {
		if _, ok := p.joined[port]; ok {
			continue
		}
		mac, err := net.ParseMAC(port.MAC)
		if err == nil {
			var n *lan.Network
			if n, err = p.lans.get(port.HostOnly); err == nil {
				p.joined[port] = join(ctx, n, mac, port.Socket)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("network %q: %w", port.HostOnly.Name, err))
		}
	}
	return errors.Join(errs...)
}

func join(ctx context.Context, n *lan.Network, mac net.HardwareAddr, socket string) plug {
	return plug{n, mac, background(ctx, func(ctx context.Context) {
		_ = n.Join(ctx, lan.Port{MAC: mac, Socket: socket}) // it ends with ctx
	})}
}

// close pulls all.
func (p *plugs) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.joined {
		g.pull()
	}
	clear(p.joined)
}

// networks names those on which the guest is, sorted.
func (p *plugs) networks() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := []string{}
	for port, g := range p.joined {
		if g.network.Joined(g.mac) {
			names = append(names, port.HostOnly.Name)
		}
	}
	slices.Sort(names)
	return names
}
