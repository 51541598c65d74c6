package qemu

import (
	"context"

	"github.com/hostctl/hostctl/internal/usernet"
	"github.com/hostctl/hostctl/provider"
)

// CheckHostAddress implements [provider.HostAddresser].
func (p *Provider) CheckHostAddress() error { return nil }

// HostAddress implements [provider.HostAddresser]: every guest is on the user
// network.
func (p *Provider) HostAddress(context.Context, string) (provider.HostAddress, error) {
	return usernet.Host, nil
}
