// Package network holds addresses, ports and forwards as values, and knows
// which host ports are free and who holds the others, which subnets this host
// uses already, and which of its interfaces a bridged network can be on. It
// talks to no hypervisor.
package network

import (
	"fmt"
	"net/netip"
)

// Forward leads a host port to a guest port.
type Forward struct {
	Name      string     `json:"name"`     // unique in the machine; "ssh" and "docker" are hostctl's own when not declared
	Protocol  string     `json:"protocol"` // "tcp" or "udp"
	HostIP    netip.Addr `json:"host_ip"`
	HostPort  uint16     `json:"host_port"`
	GuestPort uint16     `json:"guest_port"`
}

// HostAddr returns the host's side, for instance 127.0.0.1:2375.
func (f Forward) HostAddr() netip.AddrPort { return netip.AddrPortFrom(f.HostIP, f.HostPort) }

// String returns "127.0.0.1:2375 -> 2375/tcp".
func (f Forward) String() string {
	return fmt.Sprintf("%s -> %d/%s", f.HostAddr(), f.GuestPort, f.Protocol)
}
