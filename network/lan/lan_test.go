package lan_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/network/lan"
)

var (
	cidr       = netip.MustParsePrefix("172.28.8.0/24")
	gatewayIP  = netip.MustParseAddr("172.28.8.1")
	gatewayMAC = network.MAC(cidr.String(), "gateway")
	broadcast  = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until attempt returns nil.
func eventually(t testing.TB, attempt func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, wait.Until(ctx, 5*time.Millisecond, attempt))
}

// card is QEMU's end of a port: it listens, serves one client at a time, and
// waits for the next when that is gone.
type card struct {
	t      testing.TB
	path   string
	mac    net.HardwareAddr
	listen net.Listener

	mu   sync.Mutex
	conn net.Conn
	rx   func(frame []byte) // called for each frame; nil stops reading
}

func newCard(t testing.TB, n byte, rx func(frame []byte)) *card {
	t.Helper()
	dir, err := os.MkdirTemp("", "hc") // t.TempDir's path is too long for sockets
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &card{t: t, path: filepath.Join(dir, "nic"), mac: net.HardwareAddr{0x52, 0x54, 0, 0, 0, n}, rx: rx}
	c.start()
	t.Cleanup(c.stop)
	return c
}

func (c *card) start() {
	c.t.Helper()
	l, err := net.Listen("unix", c.path)
	must(c.t, err)
	c.listen = l
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.conn = conn
			c.mu.Unlock()
			for c.rx != nil {
				var length [4]byte
				if _, err := io.ReadFull(conn, length[:]); err != nil {
					break
				}
				frame := make([]byte, binary.BigEndian.Uint32(length[:]))
				if _, err := io.ReadFull(conn, frame); err != nil {
					break
				}
				c.rx(frame)
			}
		}
	}()
}

// stop is the end of QEMU.
func (c *card) stop() {
	c.listen.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// write sends bytes to the switch as they are.
func (c *card) write(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return errors.New("nobody joined the card")
	}
	_, err := c.conn.Write(b)
	return err
}

func (c *card) send(frame []byte) error {
	return c.write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
}

func (c *card) port() lan.Port { return lan.Port{MAC: c.mac, Socket: c.path} }

// frame is an Ethernet frame of a type that nobody understands, unless another
// is given.
func frame(to, from net.HardwareAddr, payload string) []byte {
	return append(append(append([]byte{}, to...), from...), "\x88\xb5"+payload...)
}

// guest is a card with an IP stack behind it.
type guest struct {
	*card
	addr     netip.Addr
	stack    *stack.Stack
	endpoint *tap.LinkEndpoint
}

func newGuest(t testing.TB, n byte) *guest {
	t.Helper()
	g := &guest{addr: netip.AddrFrom4([4]byte{172, 28, 8, 100 + n})}
	g.card = newCard(t, n, func(frame []byte) {
		data := buffer.MakeWithData(frame)
		data.TrimFront(header.EthernetMinimumSize)
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: data})
		defer pkt.DecRef()
		g.endpoint.DeliverNetworkPacket(header.Ethernet(frame).Type(), pkt)
	})
	var err error
	g.endpoint, err = tap.NewLinkEndpoint(false, lan.MTU, g.mac.String(), g.addr.String(), nil)
	must(t, err)
	g.endpoint.Connect(g)
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	t.Cleanup(g.stack.Destroy)
	if err := g.stack.CreateNIC(1, g.endpoint); err != nil {
		t.Fatal(err)
	}
	own := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(g.addr.As4()), PrefixLen: 24}}
	if err := g.stack.AddProtocolAddress(1, own, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	g.stack.SetRouteTable([]tcpip.Route{
		{Destination: own.AddressWithPrefix.Subnet(), NIC: 1},
		// The guest tries to get out through the network's first address.
		{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFrom4(gatewayIP.As4()), NIC: 1},
	})
	return g
}

// DeliverNetworkPacket sends what the guest's stack sends.
func (g *guest) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	_ = g.send(pkt.ToView().AsSlice()) // lost as on a cable that is not plugged in
}

func (g *guest) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(g.addr, port) }

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFrom4(a.Addr().As4()), Port: a.Port()}
}

// echo serves on a port of the guest's: it sends back what it gets.
func (g *guest) echo(port uint16) {
	g.t.Helper()
	l, err := gonet.ListenTCP(g.stack, full(g.at(port)), ipv4.ProtocolNumber)
	must(g.t, err)
	g.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
}

func (g *guest) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	c, err := gonet.DialContextTCP(ctx, g.stack, full(to), ipv4.ProtocolNumber)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ping sends one echo request and waits for its answer, at most for a second.
func (g *guest) ping(ctx context.Context, to netip.Addr) error {
	var wq waiter.Queue
	ep, terr := g.stack.NewEndpoint(icmp.ProtocolNumber4, ipv4.ProtocolNumber, &wq)
	if terr != nil {
		return errors.New(terr.String())
	}
	defer ep.Close()
	entry, arrived := waiter.NewChannelEntry(waiter.ReadableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	request := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize+4))
	request.SetType(header.ICMPv4Echo)
	copy(request.Payload(), "ping")
	request.SetChecksum(^checksum.Checksum(request, 0))
	address := full(netip.AddrPortFrom(to, 0))
	if _, terr := ep.Write(bytes.NewReader(request), tcpip.WriteOptions{To: &address}); terr != nil {
		return errors.New(terr.String())
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	select {
	case <-arrived:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no answer from %s", to)
	}
}

// roundTrip sends text on a connection to an echo and waits for it.
func roundTrip(c net.Conn, text string) error {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("got %q, want %q", got, text)
	}
	return nil
}

// joined is a network with these ports joined; leave ends it as the end of the
// agent would.
func joined(t testing.TB, cards ...*card) (n *lan.Network, leave func()) {
	t.Helper()
	n, err := lan.New(cidr, slog.New(slog.DiscardHandler))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var joins sync.WaitGroup
	for _, c := range cards {
		joins.Go(func() {
			if err := n.Join(ctx, c.port()); !errors.Is(err, context.Canceled) {
				t.Errorf("Join returned %v", err)
			}
		})
	}
	leave = sync.OnceFunc(func() {
		cancel()
		joins.Wait()
		n.Close()
	})
	t.Cleanup(leave)
	for _, c := range cards {
		eventually(t, func(context.Context) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !n.Joined(c.mac) || c.conn == nil {
				return errors.New("not joined")
			}
			return nil
		})
	}
	return n, leave
}

func TestGuestsReachEachOther(t *testing.T) {
	t.Parallel()
	a, b := newGuest(t, 1), newGuest(t, 2)
	n, _ := joined(t, a.card, b.card)
	b.echo(80)
	for _, to := range []netip.Addr{b.addr, gatewayIP} {
		eventually(t, func(ctx context.Context) error { return a.ping(ctx, to) })
	}
	c, err := a.dial(t.Context(), b.at(80))
	must(t, err)
	defer c.Close()
	must(t, roundTrip(c, "hello"))

	host, err := n.DialGuest(t.Context(), "tcp", b.at(80))
	must(t, err)
	defer host.Close()
	must(t, roundTrip(host, "hello from the host"))
	if got, want := host.LocalAddr().(*net.TCPAddr).AddrPort().Addr(), gatewayIP; got != want {
		t.Errorf("the host has the address %s, want %s", got, want)
	}
}

func TestDialGuest(t *testing.T) {
	t.Parallel()
	a := newGuest(t, 1)
	n, _ := joined(t, a.card)
	if _, err := n.DialGuest(t.Context(), "tcp", a.at(81)); err == nil {
		t.Error("connected to a port on which nobody listens")
	}
	for _, c := range []struct{ protocol, to, want string }{
		{"tcp", "127.0.0.1:80", "127.0.0.1 is not on network 172.28.8.0/24"},
		{"sctp", "172.28.8.101:80", `unknown protocol "sctp": not tcp or udp`},
	} {
		if _, err := n.DialGuest(t.Context(), c.protocol, netip.MustParseAddrPort(c.to)); err == nil || err.Error() != c.want {
			t.Errorf("%s %s: %v, want %s", c.protocol, c.to, err, c.want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := n.DialGuest(ctx, "tcp", netip.MustParseAddrPort("172.28.8.200:80")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody's address: %v", err)
	}

	remote := full(a.at(53))
	server, err := gonet.DialUDP(a.stack, &remote, nil, ipv4.ProtocolNumber)
	must(t, err)
	defer server.Close()
	go func() {
		buf := make([]byte, 64)
		if n, from, err := server.ReadFrom(buf); err == nil {
			server.WriteTo(buf[:n], from)
		}
	}()
	client, err := n.DialGuest(t.Context(), "udp", a.at(53))
	must(t, err)
	defer client.Close()
	must(t, roundTrip(client, "query"))
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"fd00::/64", "172.28.8.1/24", "172.28.8.0/31"} {
		_, err := lan.New(netip.MustParsePrefix(p), nil)
		if want := p + " is not an IPv4 network"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// The agent died in the middle of the guests' work: the next one takes over,
// and their connections go on.
func TestNetworkIsReplaced(t *testing.T) {
	t.Parallel()
	a, b := newGuest(t, 1), newGuest(t, 2)
	_, leave := joined(t, a.card, b.card)
	b.echo(80)
	c, err := a.dial(t.Context(), b.at(80))
	must(t, err)
	defer c.Close()
	must(t, roundTrip(c, "before"))
	for i := range 3 {
		leave()
		_, leave = joined(t, a.card, b.card)
		must(t, roundTrip(c, fmt.Sprintf("after %d", i)))
	}
}

func TestGuestIsRestarted(t *testing.T) {
	t.Parallel()
	a, b := newGuest(t, 1), newGuest(t, 2)
	n, _ := joined(t, a.card, b.card)
	b.echo(80)
	b.stop()
	eventually(t, func(context.Context) error {
		if n.Joined(b.mac) {
			return errors.New("the stopped guest is still joined")
		}
		return nil
	})
	b.start()
	c, err := a.dial(t.Context(), b.at(80))
	must(t, err)
	defer c.Close()
	must(t, roundTrip(c, "hello again"))
}

// What guests send leads nowhere but to each other: no DHCP, no DNS, no other
// network, nothing of the host's.
func TestNothingLeadsOut(t *testing.T) {
	t.Parallel()
	replies := make(chan []byte, 100)
	raw := newCard(t, 9, func(frame []byte) { replies <- frame })
	a := newGuest(t, 1)
	joined(t, raw, a.card)

	loopback, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer loopback.Close()
	everywhere, err := net.ListenTCP("tcp4", &net.TCPAddr{})
	must(t, err)
	defer everywhere.Close()
	datagrams, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer datagrams.Close()
	port := func(l net.Listener) uint16 { return l.Addr().(*net.TCPAddr).AddrPort().Port() }

	// 10.0.2.2 and 192.168.127.254 are the host in QEMU's user network and in
	// gvisor-tap-vsock's.
	for _, to := range []string{"127.0.0.1", "172.28.8.1", "10.0.2.2", "192.168.127.254"} {
		for _, p := range []uint16{port(loopback), port(everywhere), 53} {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if c, err := a.dial(ctx, netip.AddrPortFrom(netip.MustParseAddr(to), p)); err == nil {
				c.Close()
				t.Errorf("connected to %s:%d", to, p)
			}
			cancel()
		}
		must(t, raw.send(udpFrame(raw.mac, netip.MustParseAddrPort("172.28.8.109:1"),
			netip.AddrPortFrom(netip.MustParseAddr(to), uint16(datagrams.LocalAddr().(*net.UDPAddr).Port)), "x")))
	}
	must(t, raw.send(udpFrame(raw.mac, netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), dhcpDiscover)))
	must(t, raw.send(udpFrame(raw.mac, netip.MustParseAddrPort("172.28.8.109:2"), netip.MustParseAddrPort("172.28.8.1:53"),
		"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01")))

	for name, l := range map[string]*net.TCPListener{"loopback": loopback, "all addresses": everywhere} {
		must(t, l.SetDeadline(time.Now().Add(100*time.Millisecond)))
		if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the host's listener on %s: %v", name, err)
		}
	}
	must(t, datagrams.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	if _, err := datagrams.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the host's UDP socket: %v", err)
	}
	for len(replies) > 0 {
		f := <-replies
		if eth := header.Ethernet(f); eth.Type() == header.IPv4ProtocolNumber && header.IPv4(f[14:]).Protocol() == uint8(header.UDPProtocolNumber) {
			t.Errorf("a guest was sent %x", f)
		}
	}
}

const dhcpDiscover = "\x01\x01\x06\x00\x39\x03\xf3\x26" + // to "chaddr" below: request, Ethernet, transaction
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x52\x54\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// udpFrame is a datagram to the gateway's card.
func udpFrame(mac net.HardwareAddr, from, to netip.AddrPort, payload string) []byte {
	b := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+header.UDPMinimumSize, 400)
	dst := gatewayMAC
	if to.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		dst = broadcast
		payload += string(make([]byte, 192)) + "\x63\x82\x53\x63\x35\x01\x01\xff" // DHCP: discover
	}
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(mac), DstAddr: tcpip.LinkAddress(dst), Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(b[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(header.IPv4MinimumSize + header.UDPMinimumSize + len(payload)), TTL: 64,
		Protocol: uint8(header.UDPProtocolNumber), SrcAddr: tcpip.AddrFrom4(from.Addr().As4()), DstAddr: tcpip.AddrFrom4(to.Addr().As4())})
	ip.SetChecksum(^ip.CalculateChecksum())
	header.UDP(ip.Payload()).Encode(&header.UDPFields{SrcPort: from.Port(), DstPort: to.Port(), Length: uint16(header.UDPMinimumSize + len(payload))})
	return append(b, payload...)
}

// collect is a card that keeps what it gets.
func collect(t testing.TB, n byte) (*card, chan string) {
	got := make(chan string, 100)
	return newCard(t, n, func(frame []byte) { got <- string(frame[14:]) }), got
}

func next(t *testing.T, from chan string, want string) {
	t.Helper()
	select {
	case got := <-from:
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("%q did not arrive", want)
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	a, toA := collect(t, 1)
	b, toB := collect(t, 2)
	c, toC := collect(t, 3)
	joined(t, a, b, c)
	stranger := net.HardwareAddr{0x02, 0, 0, 0, 0, 7}
	multicast := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}

	must(t, a.send(frame(broadcast, a.mac, "everybody")))
	next(t, toB, "everybody")
	next(t, toC, "everybody")
	must(t, a.send(frame(multicast, a.mac, "a group")))
	next(t, toB, "a group")
	next(t, toC, "a group")
	must(t, a.send(frame(b.mac, a.mac, "b")))
	next(t, toB, "b")
	must(t, a.send(frame(stranger, a.mac, "who?"))) // not known yet
	next(t, toB, "who?")
	next(t, toC, "who?")
	must(t, c.send(frame(a.mac, stranger, "me"))) // behind c
	next(t, toA, "me")
	must(t, a.send(frame(stranger, a.mac, "you")))
	next(t, toC, "you")
	must(t, b.send(frame(a.mac, stranger, "moved"))) // to b
	next(t, toA, "moved")
	must(t, a.send(frame(stranger, a.mac, "there")))
	next(t, toB, "there")
	must(t, c.send(frame(a.mac, b.mac, "forged"))) // nobody takes a card's own address
	next(t, toA, "forged")
	must(t, a.send(frame(b.mac, a.mac, "still b")))
	next(t, toB, "still b")
	must(t, a.send(frame(a.mac, a.mac, "myself")))
	must(t, a.send([]byte("short"))) // no header
	must(t, a.send(frame(b.mac, a.mac, "")))
	next(t, toB, "")
	for name, ch := range map[string]chan string{"a": toA, "b": toB, "c": toC} {
		if len(ch) > 0 {
			t.Errorf("%s also got %q", name, <-ch)
		}
	}
}

// A stream that is out of step is begun anew.
func TestOutOfStep(t *testing.T) {
	t.Parallel()
	for name, garbage := range map[string]string{"too long": "\xff\xff\xff\xff", "no length": "\x00\x00\x00\x00"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, _ := collect(t, 1)
			b, toB := collect(t, 2)
			joined(t, a, b)
			a.mu.Lock()
			before := a.conn
			a.mu.Unlock()
			must(t, a.write([]byte(garbage)))
			eventually(t, func(context.Context) error {
				a.mu.Lock()
				defer a.mu.Unlock()
				if a.conn == before {
					return errors.New("not joined anew")
				}
				return nil
			})
			must(t, a.send(frame(b.mac, a.mac, "in step")))
			next(t, toB, "in step")
		})
	}
}

// A paused guest reads nothing; the others do not notice.
func TestGuestThatDoesNotRead(t *testing.T) {
	t.Parallel()
	a, b := newGuest(t, 1), newGuest(t, 2)
	paused := newCard(t, 3, nil)
	joined(t, a.card, b.card, paused)
	b.echo(80)
	c, err := a.dial(t.Context(), b.at(80))
	must(t, err)
	defer c.Close()
	big := string(make([]byte, 60_000))
	for range 200 { // 12 MB, more than socket and queue hold
		must(t, a.send(frame(broadcast, a.mac, big)))
		must(t, a.send(frame(paused.mac, a.mac, big)))
	}
	must(t, roundTrip(c, "still here"))
}

func TestManyBytes(t *testing.T) {
	t.Parallel()
	a, b := newGuest(t, 1), newGuest(t, 2)
	n, _ := joined(t, a.card, b.card)
	b.echo(80)
	for name, dial := range map[string]func() (net.Conn, error){
		"guest": func() (net.Conn, error) { return a.dial(t.Context(), b.at(80)) },
		"host":  func() (net.Conn, error) { return n.DialGuest(t.Context(), "tcp", b.at(80)) },
	} {
		c, err := dial()
		must(t, err)
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(time.Minute)))
		want := make([]byte, 8<<20)
		for i := range want {
			want[i] = byte(i * 2654435761 >> 13)
		}
		go c.Write(want)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: bytes changed on the way: %v", name, err)
		}
	}
}
