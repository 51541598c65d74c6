package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/network/proxy"
	"github.com/hostctl/hostctl/provider"
)

// carrier puts forwards of one running machine in force, beside those that the
// hypervisor was started with.
type carrier interface {
	// live lists what is in force now.
	live(ctx context.Context) ([]network.Forward, error)
	// add gives a *[provider.PortError] when the host port is taken.
	add(ctx context.Context, f network.Forward) error
	remove(ctx context.Context, f network.Forward) error
	// close takes away what this process carries itself.
	close() error
}

// hypervisor lets the provider forward.
type hypervisor struct {
	provider.Forwarder
	name string
}

func (h *hypervisor) live(ctx context.Context) ([]network.Forward, error) {
	return h.LiveForwards(ctx, h.name)
}

func (h *hypervisor) add(ctx context.Context, f network.Forward) error {
	return h.AddForward(ctx, h.name, f)
}

func (h *hypervisor) remove(ctx context.Context, f network.Forward) error {
	return h.RemoveForward(ctx, h.name, f)
}

func (h *hypervisor) close() error { return nil }

// proxies are forwards that this process carries to a guest with an address of
// its own.
type proxies struct {
	guest provider.Dialer
	name  string
	log   *slog.Logger

	mu        sync.Mutex
	listeners map[route]listening
}

type listening struct {
	network.Forward
	listener *proxy.Listener
}

// route is a forward without its name.
type route struct {
	protocol  string
	host      string
	guestPort uint16
}

func routeOf(f network.Forward) route {
	return route{f.Protocol, f.HostAddr().String(), f.GuestPort}
}

func (p *proxies) live(context.Context) ([]network.Forward, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []network.Forward
	for _, l := range p.listeners {
		out = append(out, l.Forward)
	}
	return out, nil
}

func (p *proxies) add(ctx context.Context, f network.Forward) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.listeners[routeOf(f)]; ok {
		return nil
	}
	l, err := proxy.Listen(ctx, f, func(ctx context.Context) (net.Conn, error) {
		return p.guest.DialGuest(ctx, p.name, f.Protocol, f.GuestPort)
	}, p.log)
	if err != nil {
		if in, ok := errors.AsType[*network.InUseError](err); ok {
			err = &provider.PortError{Forward: f, Err: in}
		}
		return err
	}
	p.listeners[routeOf(f)] = listening{f, l}
	return nil
}

func (p *proxies) remove(_ context.Context, f network.Forward) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.listeners[routeOf(f)]
	if !ok {
		return nil
	}
	delete(p.listeners, routeOf(f))
	return l.listener.Close()
}

func (p *proxies) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, l := range p.listeners {
		errs = append(errs, l.listener.Close())
	}
	clear(p.listeners)
	return errors.Join(errs...)
}
