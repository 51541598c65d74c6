package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/provider"
)

// DialGuest implements [provider.Dialer]: straight to the guest's address where this
// host is libvirt's, and through the SSH connection to it elsewhere.
func (s *System) DialGuest(ctx context.Context, name, protocol string, port uint16) (net.Conn, error) {
	addr, err := s.guestAddress(ctx, name)
	if err != nil {
		return nil, err
	}
	to := net.JoinHostPort(addr.String(), strconv.Itoa(int(port)))
	switch {
	case s.target.local():
		return new(net.Dialer).DialContext(ctx, protocol, to)
	case s.target.via != viaSSH:
		return nil, hint.Wrap(fmt.Errorf("no way leads to guests of %s", s.target.uri), "use qemu+ssh://%s/system", s.target.host)
	case protocol != "tcp":
		return nil, hint.Wrap(fmt.Errorf("SSH carries no %s to guests of %s", protocol, s.target.host), "use tcp, or run hostctl on %s", s.target.host)
	}
	client, err := s.conn.throughSSH(ctx)
	if err != nil {
		return nil, err
	}
	return client.DialContext(ctx, protocol, to)
}

// addressFor is how long an address is good for without asking libvirt again: a proxy
// dials for each of its connections.
const addressFor = time.Second

// knownAddress is where a guest was reached a moment ago.
type knownAddress struct {
	addr  netip.Addr
	until time.Time
}

// guestAddress is where this host, or libvirt's, reaches the running guest.
func (s *System) guestAddress(ctx context.Context, name string) (netip.Addr, error) {
	s.mu.Lock()
	known := s.known[name]
	s.mu.Unlock()
	if time.Now().Before(known.until) {
		return known.addr, nil
	}
	addr, err := s.findAddress(ctx, name)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.known[name] = knownAddress{addr, time.Now().Add(addressFor)}
	}
	return addr, err
}

func (s *System) findAddress(ctx context.Context, name string) (netip.Addr, error) {
	dom, err := s.find(ctx, name)
	if err != nil {
		return netip.Addr{}, err
	}
	if !dom.running() {
		return netip.Addr{}, fmt.Errorf("domain %q is %w", name, provider.ErrNotRunning)
	}
	if dom.record.NAT.IsValid() && !dom.record.Domain.NoNAT {
		return dom.record.NAT.Addr(), nil
	}
	for _, n := range dom.record.Domain.NICs {
		if n.HostOnly != nil && n.Address.IsValid() {
			return n.Address, nil
		}
	}
	return netip.Addr{}, hint.Wrap(errors.New("the guest is on no network that this host reaches"), "give the machine a host-only network, or leave nat on")
}
