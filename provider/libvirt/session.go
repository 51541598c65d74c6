package libvirt

import (
	"context"
	"errors"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/hostctl/hostctl/provider"
)

// Session is the user's own libvirt: it has no networks, and its guests reach the
// world through QEMU's user network, which forwards host ports, too.
type Session struct{ *driver }

var (
	_ provider.Provider = (*Session)(nil)
	_ provider.Console  = (*Session)(nil)
	_ provider.Watcher  = (*Session)(nil)
)

func (s *Session) check(_ context.Context, d provider.Domain) error {
	for _, n := range d.NICs {
		field := "interface"
		if n.HostOnly != nil {
			field = "cidr"
		}
		return &provider.FieldError{
			Field: field, Network: n.Network, Err: errors.New("a libvirt session makes no networks"),
			Advice: `use qemu:///system, or provider = "qemu"`,
		}
	}
	return nil
}

func (s *Session) remembered(d provider.Domain) provider.Domain { return d }

func (s *Session) prepare(context.Context, provider.Domain, *record, *surroundings) error { return nil }

func (s *Session) boot(ctx context.Context, dom domain) error {
	return s.startDomain(ctx, dom, rpc.DomainNone)
}

func (s *Session) release(context.Context, string) error { return nil }
