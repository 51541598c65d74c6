// Package provider declares what every hypervisor driver does: the core
// [Provider] interface, the values it takes and returns, and its errors.
package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/hostctl/hostctl/network"
)

// Provider drives one hypervisor. It is safe for concurrent use. ctx bounds
// the call, never the life of the guest. Every method can be repeated: what is
// already so is not an error. Unknown names give [ErrNotFound].
type Provider interface {
	// Check says whether and how this host can run such a guest. It changes
	// nothing. An accelerator that the guest cannot have gives a *[FieldError].
	Check(ctx context.Context, n Needs) (Host, error)
	// Create defines the domain and its overlay disk, or updates a stopped
	// domain to d; an existing overlay is kept and grown when d asks for more.
	// A running domain that differs from d gives [ErrRunning], unless it does
	// in Forwards alone: then d is recorded, for Status and the next start, and
	// what is in force is the caller's to change ([Forwarder]'s AddForward and
	// RemoveForward). A value the provider cannot take gives a *[FieldError].
	// It does not start the guest.
	Create(ctx context.Context, d Domain) error
	// Start boots a created domain and returns once the hypervisor runs it; a
	// running one is left alone. A taken host port gives a *[PortError].
	Start(ctx context.Context, name string) error
	// Stop asks the guest to shut down and, when it has not within the grace
	// period the provider was made with, powers it off. It says so by a
	// *[ForcedError]: the domain is stopped then, too.
	Stop(ctx context.Context, name string) error
	// Delete powers the domain off and removes it and its overlay, never the
	// base image. A domain that does not exist is not an error.
	Delete(ctx context.Context, name string) error
	// Status reports what the hypervisor knows. It takes milliseconds.
	Status(ctx context.Context, name string) (Status, error)
}

// Console is a capability: the guest's serial output, kept across restarts of
// hostctl.
type Console interface {
	// Console opens the domain's serial log for reading from its beginning.
	Console(ctx context.Context, name string) (io.ReadCloser, error)
}

// Forwarder is a capability: the hypervisor forwards host ports itself, those
// of [Domain].Forwards from its start on, and others while the guest runs.
// Forwards of other providers are the agent's work; their Start ignores them.
type Forwarder interface {
	// LiveForwards lists what the running domain forwards now, in no order;
	// the names are "" where the hypervisor does not keep them.
	LiveForwards(ctx context.Context, name string) ([]network.Forward, error)
	// AddForward adds f to a running domain; one that is there already is left
	// alone. A taken host port gives a *[PortError].
	AddForward(ctx context.Context, name string, f network.Forward) error
	// RemoveForward takes f away; one that is not there is not an error.
	// Connections that are under way may end.
	RemoveForward(ctx context.Context, name string, f network.Forward) error
}

// Dialer is a capability: guests that are reached without forwards, at an
// address of their own or through the hypervisor's host.
type Dialer interface {
	// DialGuest connects to a port of the running guest, on its NAT network.
	// Protocol is "tcp" or "udp".
	DialGuest(ctx context.Context, name, protocol string, port uint16) (net.Conn, error)
}

// NATAddresser is a capability: the guest's address on the NAT network is
// known before the guest boots.
type NATAddresser interface {
	// NATAddress returns the guest's address; where the hypervisor assigns
	// them it is reserved for the domain until Delete. The domain need not
	// exist yet.
	NATAddress(ctx context.Context, name, id string) (netip.Addr, error)
}

// HostAddresser is a capability: guests reach servers of this host.
type HostAddresser interface {
	// CheckHostAddress says why no guest reaches this host, for instance because
	// the hypervisor is on another one. It asks nobody.
	CheckHostAddress() error
	// HostAddress returns how the domain's guest reaches this host.
	HostAddress(ctx context.Context, name string) (HostAddress, error)
}

// HostAddress is a way from a guest to servers of this host.
type HostAddress struct {
	Guest  netip.Addr // what the guest connects to
	Listen netip.Addr // what a server listens on, to be reached there and by few others
}

// HostOnlyNetworker is a capability: the provider makes host-only networks.
// They belong to the project, whose machines share them.
type HostOnlyNetworker interface {
	// EnsureNetwork makes the network, or repairs one that was changed or
	// stopped. One of that name and another subnet is made anew; when a domain
	// is on it that gives [ErrRunning].
	EnsureNetwork(ctx context.Context, n HostOnly) (NetworkStatus, error)
	// DeleteNetwork removes the network; one that does not exist is not an
	// error. One that a domain is on gives [ErrRunning].
	DeleteNetwork(ctx context.Context, name string) error
	// Networks names the project's networks that exist. The value is false for
	// one that does not work as it is, such as one that somebody stopped:
	// EnsureNetwork repairs it.
	Networks(ctx context.Context) (map[string]bool, error)
}

// HostOnly is a network of the project's machines and the host.
type HostOnly struct {
	Name string       `json:"name"` // as declared
	CIDR netip.Prefix `json:"cidr"` // the host has its first address
}

// NetworkStatus is how a host-only network was realised.
type NetworkStatus struct {
	// HostReach says that the host reaches the guests at their addresses.
	// Where it does not, it reaches them by forwards.
	HostReach bool
	// Notice is one line the user should know, or "".
	Notice string
}

// Bridger is a capability: guests can be on a network of the host's.
type Bridger interface {
	// BridgeInterfaces lists the host's interfaces that a bridged network can
	// use, the one of the default route first.
	BridgeInterfaces(ctx context.Context) ([]network.Interface, error)
}

// Switched is a capability: network cards that wait on a socket for somebody
// who joins them to a network: the agent.
type Switched interface {
	// SwitchPorts lists the sockets of a running domain's cards, none when all
	// its networks are the host's.
	SwitchPorts(ctx context.Context, name string) ([]SwitchPort, error)
}

// SwitchPort is one network card that waits to be joined.
type SwitchPort struct {
	HostOnly HostOnly
	MAC      string
	Address  netip.Addr // the guest's
	Socket   string     // path of the UNIX socket, on which QEMU listens (-netdev stream)
}

// Watcher is a capability: the hypervisor says when a domain changes.
type Watcher interface {
	// Watch calls changed with a domain's name whenever its state may have
	// changed, and with "" when any may have (a connection was lost and is
	// there again). It returns when ctx ends, or when it cannot go on.
	Watch(ctx context.Context, changed func(name string)) error
}

// As finds a capability of p, following Unwrap() Provider.
func As[T any](p Provider) (T, bool) {
	for p != nil {
		if t, ok := p.(T); ok {
			return t, true
		}
		u, ok := p.(interface{ Unwrap() Provider })
		if !ok {
			break
		}
		p = u.Unwrap()
	}
	var zero T
	return zero, false
}

// Needs is what decides how a guest runs on a host.
type Needs struct {
	Arch  string // "amd64" or "arm64"
	Accel string // "": the best there is
}

// Host is what Check found out.
type Host struct {
	Version string // the hypervisor's, for instance "7.2.22"
	Accel   string // what the guest will run on: "kvm", "hvf", "whpx" or "tcg"
	Notice  string // one line the user should know ("no KVM: ..."), or ""
}

// MiB is an amount of memory in mebibytes.
type MiB uint64

// Domain is the hypervisor's object behind one machine.
type Domain struct {
	Name     string            `json:"name"` // the machine's name; unique in the provider value
	ID       string            `json:"id"`   // a UUID that no other domain on this host ever had
	Arch     string            `json:"arch"` // "amd64" or "arm64"
	CPUs     int               `json:"cpus"`
	Memory   MiB               `json:"memory"`
	Accel    string            `json:"accel,omitempty"` // "" lets the provider probe
	Disk     Disk              `json:"disk"`
	Ignition Ignition          `json:"ignition"`
	Forwards []network.Forward `json:"forwards"`
	// NoNAT leaves out the card that has the way to the world, and on which a
	// [Forwarder]'s forwards arrive.
	NoNAT bool `json:"no_nat,omitempty"`
	// NICs are the cards beside it, in the machine file's order.
	NICs []NIC `json:"nics,omitempty"`
}

// NIC is a network card on a host-only or bridged network. One of HostOnly and
// Interface is set.
type NIC struct {
	Network   string     `json:"network"` // as declared; unique in the domain
	MAC       string     `json:"mac"`
	HostOnly  *HostOnly  `json:"host_only,omitempty"`
	Address   netip.Addr `json:"address,omitzero"`    // the guest's on the host-only network
	Interface string     `json:"interface,omitempty"` // of the host, for a bridged network
}

// Disk describes the overlay: a copy-on-write layer over a base image.
type Disk struct {
	Base       string    `json:"base"`           // absolute path of the read-only base image
	BaseFormat string    `json:"base_format"`    // "qcow2" or "raw"
	Size       uint64    `json:"size,omitempty"` // bytes; 0: as large as the base; smaller is a *FieldError
	Firmware   *Firmware `json:"firmware,omitempty"`
}

// Firmware is the UEFI the guest boots by; nil means BIOS on amd64 and the
// host's own edk2 on arm64.
type Firmware struct {
	Code   string `json:"code"` // absolute path, read-only
	Vars   string `json:"vars"` // absolute path of the template; each domain gets a copy
	Format string `json:"format"`
}

// Ignition is the guest's first-boot configuration.
type Ignition struct {
	Key    string `json:"key"` // fw_cfg name, for instance "opt/com.coreos/config"
	Config []byte `json:"config"`
}

// State of a domain.
type State string

// States a provider reports. A domain that does not exist is [ErrNotFound].
const (
	Running State = "running"
	Stopped State = "stopped"
)

// Status is what the hypervisor knows of a domain.
type Status struct {
	State    State
	Accel    string            // of a running domain
	Forwards []network.Forward // in force when running, else those it will start with
}

// Sentinels, matched with errors.Is.
var (
	ErrNotFound   = errors.New("no such domain")
	ErrNotRunning = errors.New("not running")
	ErrRunning    = errors.New("is running")
)

// ForcedError says that Stop had to power the guest off.
type ForcedError struct {
	Err error // why it did not shut down
}

func (e *ForcedError) Error() string { return "the guest was powered off: " + e.Err.Error() }
func (e *ForcedError) Unwrap() error { return e.Err }

// FieldError rejects one value of a [Domain]. Field is the machine file's
// attribute: "memory", "cpus", "disk", "accel", "nat" or "image" of the machine;
// "host", "host_ip", "guest" or "protocol" of the forward named by Forward;
// "cidr", "interface" or "address" of the network named by Network.
type FieldError struct {
	Field   string
	Forward string // "": not of a forward
	Network string // "": not of a network
	Err     error
	Advice  string // what to change, or ""
}

func (e *FieldError) Error() string {
	if e.Forward != "" {
		return fmt.Sprintf("forward %q: %s: %v", e.Forward, e.Field, e.Err)
	}
	if e.Network != "" {
		return fmt.Sprintf("network %q: %s: %v", e.Network, e.Field, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Field, e.Err)
}
func (e *FieldError) Unwrap() error { return e.Err }

// Hint says what to change.
func (e *FieldError) Hint() string { return e.Advice }

// PortError says that a forward's host port is taken. Err is the
// *[network.InUseError] that names the holder where the system tells, or what
// the hypervisor said.
type PortError struct {
	Forward network.Forward
	Err     error
}

func (e *PortError) Error() string {
	if in, ok := errors.AsType[*network.InUseError](e.Err); ok {
		return fmt.Sprintf("forward %q: host port %v", e.Forward.Name, in)
	}
	return fmt.Sprintf("forward %q: host port %s is in use", e.Forward.Name, e.Forward.HostAddr())
}
func (e *PortError) Unwrap() error { return e.Err }
