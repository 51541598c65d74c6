package lan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/hostctl/hostctl/network"
)

// gateway is the network's first address: an IP stack of its own beside the
// host's. It has what gvisor-tap-vsock's virtualnetwork adds to such a stack
// left out: the forwarders that take up connections to any address and call
// the world or the host for guests, DHCP, DNS, and an API.
type gateway struct {
	mac      mac
	endpoint *tap.LinkEndpoint
	stack    *stack.Stack
	sw       *ethernetSwitch
}

// nic is the stack's only card.
const nic = 1

func newGateway(cidr netip.Prefix, sw *ethernetSwitch) (*gateway, error) {
	address := cidr.Addr().Next()
	// The same for as long as the network is: guests remember it when the
	// agent is another.
	hw := network.MAC(cidr.String(), "gateway")
	m, _ := asMAC(hw)
	endpoint, err := tap.NewLinkEndpoint(false, MTU, hw.String(), address.String(), nil)
	if err != nil {
		return nil, err
	}
	g := &gateway{mac: m, endpoint: endpoint, sw: sw, stack: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})}
	endpoint.Connect(g)
	if err := g.stack.CreateNIC(nic, endpoint); err != nil {
		return nil, errors.New(err.String())
	}
	own := tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(address.As4()), PrefixLen: cidr.Bits()},
	}
	if err := g.stack.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
		return nil, errors.New(err.String())
	}
	g.stack.SetRouteTable([]tcpip.Route{{Destination: own.AddressWithPrefix.Subnet(), NIC: nic}})
	sack := tcpip.TCPSACKEnabled(true)
	if err := g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return nil, errors.New(err.String())
	}
	sw.join(m, g)
	return g, nil
}

// send implements outlet: a frame arrives at the gateway.
func (g *gateway) send(packet []byte) {
	frame := header.Ethernet(packet[lengthSize:])
	if to := mac(frame[:6]); to != g.mac && !to.group() {
		return
	}
	data := buffer.MakeWithData(packet[lengthSize:])
	data.TrimFront(headerSize)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: data})
	defer pkt.DecRef()
	g.endpoint.DeliverNetworkPacket(frame.Type(), pkt)
}

// DeliverNetworkPacket implements [tap.NetworkSwitch]: a frame leaves the
// gateway.
func (g *gateway) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	frame := pkt.ToView().AsSlice()
	packet := make([]byte, lengthSize, lengthSize+len(frame))
	binary.BigEndian.PutUint32(packet, uint32(len(frame)))
	g.sw.forward(g, append(packet, frame...))
}

func (g *gateway) dial(ctx context.Context, protocol string, to netip.AddrPort) (net.Conn, error) {
	addr := tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(to.Addr().As4()), Port: to.Port()}
	switch protocol {
	case "tcp":
		// The typed nil of a failed call must not become a net.Conn.
		if c, err := gonet.DialContextTCP(ctx, g.stack, addr, ipv4.ProtocolNumber); err == nil {
			return c, nil
		} else {
			return nil, fmt.Errorf("connect to %s: %w", to, err)
		}
	case "udp":
		if c, err := gonet.DialUDP(g.stack, nil, &addr, ipv4.ProtocolNumber); err == nil {
			return c, nil
		} else {
			return nil, fmt.Errorf("connect to %s: %w", to, err)
		}
	default:
		return nil, fmt.Errorf("unknown protocol %q: not tcp or udp", protocol)
	}
}

func (g *gateway) close() {
	g.sw.leave(g)
	g.stack.Destroy()
}
