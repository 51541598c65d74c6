// Package lan is the wire of a host-only network where the host's own cannot
// be had: an Ethernet switch in a process of the user's. QEMU listens on a
// UNIX socket for each network card; the switch connects to them, so that one
// that died can be replaced while the guests run.
//
// Nothing leads out of it. The network's first address answers ping, so that
// it looks as it does where the host has that address, and calls guests on the
// host's behalf ([Network.DialGuest]); nothing that guests send to it reaches
// a socket of the host's or another network, and nothing hands out addresses.
package lan

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
)

// Network is one host-only network. It is safe for concurrent use.
type Network struct {
	cidr    netip.Prefix
	log     *slog.Logger
	sw      *ethernetSwitch
	gateway *gateway
}

// Port is a guest's card that waits to be joined.
type Port struct {
	MAC    net.HardwareAddr
	Socket string // path of the UNIX socket, on which QEMU listens (-netdev stream)
}

// MTU is what guests and gateway send at most: 64 KiB is as much as an IP
// packet can have, and the fewer packets there are, the less it costs QEMU and
// the switch to carry them. It is QEMU's to tell guests (virtio's host_mtu).
const MTU = 65520

// joinEvery is how often a socket is tried where nobody listens. It bounds how
// long a guest that was just started is alone.
const joinEvery = 200 * time.Millisecond

// New returns a network without guests; nil discards what would be logged. Its
// gateway has the first address of cidr, which is masked and IPv4.
func New(cidr netip.Prefix, logger *slog.Logger) (*Network, error) {
	if !cidr.IsValid() || !cidr.Addr().Is4() || cidr != cidr.Masked() || cidr.Bits() > 30 {
		return nil, fmt.Errorf("%s is not an IPv4 network", cidr)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	sw := newSwitch()
	g, err := newGateway(cidr, sw)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", cidr, err)
	}
	return &Network{cidr: cidr, log: logger, sw: sw, gateway: g}, nil
}

// Close ends the gateway's connections. Ports that are joined stay so until
// their contexts end.
func (n *Network) Close() { n.gateway.close() }

// Join keeps the port joined until ctx ends, and returns ctx's cause. It
// connects again when the guest was restarted.
func (n *Network) Join(ctx context.Context, p Port) error {
	mac, ok := asMAC(p.MAC)
	if !ok {
		return fmt.Errorf("port %s: %q is no Ethernet address", p.Socket, p.MAC)
	}
	_ = wait.Until(ctx, joinEvery, func(ctx context.Context) error { // it never succeeds
		err := n.serve(ctx, mac, p.Socket)
		n.log.DebugContext(ctx, "port is not joined", "mac", mac, "socket", p.Socket, "error", err)
		return err
	})
	return context.Cause(ctx)
}

// Joined reports whether the guest with that card is on the network.
func (n *Network) Joined(mac net.HardwareAddr) bool {
	m, ok := asMAC(mac)
	return ok && n.sw.joined(m)
}

// serve carries the port's frames until the connection or ctx ends. The error
// is never nil.
func (n *Network) serve(ctx context.Context, mac mac, socket string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	l := newLink(conn)
	n.sw.join(mac, l)
	defer n.sw.leave(l)
	n.log.DebugContext(ctx, "port joined", "mac", mac, "socket", socket)
	return l.run(ctx, func(frame []byte) { n.sw.forward(l, frame) })
}

// DialGuest connects to a guest from the network's first address. Protocol is
// "tcp" or "udp".
func (n *Network) DialGuest(ctx context.Context, protocol string, to netip.AddrPort) (net.Conn, error) {
	if !n.cidr.Contains(to.Addr()) {
		return nil, fmt.Errorf("%s is not on network %s", to.Addr(), n.cidr)
	}
	return n.gateway.dial(ctx, protocol, to)
}
