package project

import (
	"net/netip"
	"time"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/network"
)

// MachineState is what outlives the command that made a machine.
type MachineState struct {
	Provider string      `json:"provider"`
	DomainID string      `json:"domain_id"` // UUID
	Image    image.Image `json:"image"`     // what the overlay lies on
	// Spec is what the machine file asked for when the machine was last made
	// or started.
	Spec     Spec              `json:"spec"`
	Forwards []network.Forward `json:"forwards"`       // as assigned, those of ssh and docker included
	NICs     []NIC             `json:"nics,omitempty"` // as assigned, in the order of Spec.Networks
	// Names are what the guest's /etc/hosts says of the project's machines.
	Names []Name `json:"names,omitempty"`
	// DockerAddresses are those at which the guest was last told to offer Docker;
	// none where it offers it at all of its own, or was not told since its first boot.
	DockerAddresses []netip.Addr `json:"docker_addresses,omitempty"`
	// Mounted are the shares that the guest was told of last, and MountsSum
	// stands for how: see lifecycle's step "mount shares".
	Mounted   []ShareSpec `json:"mounted,omitempty"`
	MountsSum string      `json:"mounts_sum,omitempty"`
	// SharesLeft: shares of the agent's server have left the guest since the
	// machine was started. Containers may have them still, and ask the server.
	SharesLeft bool      `json:"shares_left,omitempty"`
	Created    time.Time `json:"created"`
	Ready      bool      `json:"ready"` // has come up to the end since it was last started
}

// Spec is a machine as the machine file describes it, in the parts that can
// change between two starts.
type Spec struct {
	Image      string            `json:"image"`
	CPUs       int               `json:"cpus"`
	Memory     uint64            `json:"memory"` // bytes
	Disk       uint64            `json:"disk"`   // bytes; the overlay is larger when the image is
	Accel      string            `json:"accel,omitempty"`
	DockerPort uint16            `json:"docker_port,omitempty"` // guest port; 0: Docker is off
	Forwards   []network.Forward `json:"forwards,omitempty"`    // as declared
	// PublishPorts: the agent forwards what containers publish.
	PublishPorts bool `json:"publish_ports,omitempty"`
	// DockerInsecure leaves Docker's port open to a bridged network.
	DockerInsecure bool          `json:"docker_insecure,omitempty"`
	NoNAT          bool          `json:"no_nat,omitempty"`
	Networks       []NetworkSpec `json:"networks,omitempty"` // as declared
	Shares         []ShareSpec   `json:"shares,omitempty"`   // as declared
}

// NetworkSpec is a machine's place on a declared network.
type NetworkSpec struct {
	Name       string       `json:"name"`
	CIDR       netip.Prefix `json:"cidr,omitzero"`        // host-only; else bridged
	Address    netip.Addr   `json:"address,omitzero"`     // host-only: the declared one
	Interfaces []string     `json:"interfaces,omitempty"` // bridged
}

// NIC is what a machine was given on a network.
type NIC struct {
	Network   string       `json:"network"`
	MAC       string       `json:"mac"`
	CIDR      netip.Prefix `json:"cidr,omitzero"`       // host-only
	Address   netip.Addr   `json:"address,omitzero"`    // host-only
	Interface string       `json:"interface,omitempty"` // bridged: the host's
}

// Name is a machine by which others reach it.
type Name struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
}

// SSHForward is the name of the forward that every machine has.
const SSHForward = "ssh"

// SSH returns the forward that leads to the guest's SSH server.
func (m MachineState) SSH() network.Forward {
	for _, f := range m.Forwards {
		if f.Name == SSHForward {
			return f
		}
	}
	return network.Forward{}
}

// DockerHost returns where the Docker client reaches the guest, for instance
// "tcp://127.0.0.1:2375", or "" when Docker is off.
func (m MachineState) DockerHost() string {
	for _, f := range m.Forwards {
		if m.Spec.DockerPort != 0 && f.Protocol == "tcp" && f.GuestPort == m.Spec.DockerPort {
			return "tcp://" + Reachable(f.HostAddr()).String()
		}
	}
	return ""
}

// Reachable returns where a client on this host connects to: a forward bound
// to every address is reached through loopback.
func Reachable(a netip.AddrPort) netip.AddrPort {
	switch {
	case !a.Addr().IsUnspecified():
		return a
	case a.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	default:
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
	}
}
