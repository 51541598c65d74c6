package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	psnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// Process is a process of this host.
type Process struct {
	Name string
	PID  int
}

func (p Process) String() string { return fmt.Sprintf("%s (pid %d)", p.Name, p.PID) }

// InUseError is a host port that somebody holds. Holder is nil where the
// system does not tell: a process of another user, seen without privileges.
type InUseError struct {
	Addr     netip.AddrPort
	Protocol string
	Holder   *Process
	Err      error // what binding the port said
}

func (e *InUseError) Error() string {
	if e.Holder == nil {
		return fmt.Sprintf("%s is in use", e.Addr)
	}
	return fmt.Sprintf("%s is in use by %s", e.Addr, e.Holder)
}
func (e *InUseError) Unwrap() error { return e.Err }

// Probe binds the forward's host side for a moment. A port that is taken, also
// by a listener on all addresses, gives an *[InUseError]; anything else that
// prevents binding (an address this host does not have, a port that needs
// privileges) the system's error. A port that was free a moment ago is only a
// good guess: whoever binds it for good must cope with losing it.
func Probe(ctx context.Context, f Forward) error {
	err := bind(ctx, f.Protocol, f.HostAddr())
	if err == nil || !errors.Is(err, errAddrInUse) {
		return err
	}
	in := &InUseError{Addr: f.HostAddr(), Protocol: f.Protocol, Err: err}
	if p, ok := Holder(ctx, f.Protocol, f.HostAddr()); ok {
		in.Holder = &p
	}
	return in
}

// Holder finds the process that listens on addr, on all addresses, or, when
// addr itself is 0.0.0.0 or ::, on any address with that port. Protocol is
// "tcp" or "udp". Processes of other users may stay unseen.
func Holder(ctx context.Context, protocol string, addr netip.AddrPort) (Process, bool) {
	conns, err := psnet.ConnectionsWithContext(ctx, protocol)
	if err != nil {
		return Process{}, false
	}
	for _, c := range conns {
		if c.Pid == 0 || c.Laddr.Port != uint32(addr.Port()) {
			continue
		}
		if protocol == "tcp" && c.Status != "LISTEN" {
			continue
		}
		if !overlap(c.Laddr.IP, addr.Addr()) {
			continue
		}
		p := Process{PID: int(c.Pid)}
		if ps, err := process.NewProcessWithContext(ctx, c.Pid); err == nil {
			p.Name, _ = ps.NameWithContext(ctx) // the process may just have ended
		}
		if p.Name == "" {
			p.Name = "a process"
		}
		return p, true
	}
	return Process{}, false
}

// overlap reports whether a listener on ip takes a port of want away.
func overlap(ip string, want netip.Addr) bool {
	have, err := netip.ParseAddr(ip)
	if err != nil { // "*" on some systems
		return true
	}
	have, want = have.Unmap(), want.Unmap()
	return have == want || have.IsUnspecified() || want.IsUnspecified()
}

// NextFree returns the first port from f.HostPort up, and not taken, that the
// host can bind for f. taken holds ports that are spoken for though nobody
// listens yet, such as those of machines that are down; nil means none. With
// no such port up to 65535 it returns the reason for the last one.
func NextFree(ctx context.Context, f Forward, taken func(port uint16) bool) (uint16, error) {
	last := errors.New("all ports are taken")
	for port := int(f.HostPort); port <= 65535; port++ {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		f.HostPort = uint16(port)
		if taken != nil && taken(f.HostPort) {
			continue
		}
		// Naming the holder of every port on the way would be slow.
		err := bind(ctx, f.Protocol, f.HostAddr())
		if err == nil {
			return f.HostPort, nil
		}
		if !errors.Is(err, errAddrInUse) && !errors.Is(err, errForbidden) {
			return 0, err
		}
		last = err
	}
	return 0, fmt.Errorf("no free %s port: %w", f.Protocol, last)
}

// bind binds addr and lets it go.
func bind(ctx context.Context, protocol string, addr netip.AddrPort) error {
	// Go sets SO_REUSEADDR on TCP listeners, so that connections in TIME_WAIT
	// do not make a port look taken. What that allows besides differs.
	if err := bindWith(ctx, net.ListenConfig{}, protocol, addr); err != nil {
		return err
	}
	return bindBesideWildcard(ctx, protocol, addr)
}

func bindWith(ctx context.Context, lc net.ListenConfig, protocol string, addr netip.AddrPort) error {
	network := protocol + "6"
	if addr.Addr().Is4() {
		network = protocol + "4"
	}
	switch protocol {
	case "tcp":
		l, err := lc.Listen(ctx, network, addr.String())
		if err != nil {
			return err
		}
		return l.Close()
	case "udp":
		c, err := lc.ListenPacket(ctx, network, addr.String())
		if err != nil {
			return err
		}
		return c.Close()
	default:
		return fmt.Errorf("unknown protocol %q: not tcp or udp", protocol)
	}
}
