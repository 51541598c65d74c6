// Package agent is a project's background process: it owns what must outlive a
// command and the hypervisor does not do itself. Those are the forwards of
// providers whose guests have addresses of their own, the ports that
// containers publish, the switch of host-only networks without root, the NFS
// server of shares, and the copies of mirrored ones. It follows the project's
// state, runs only while a machine needs it, and is started anew by any command
// that finds it gone.
package agent

import (
	"net/netip"
	"time"

	"github.com/hostctl/hostctl/network"
)

// Status is what the agent does now.
type Status struct {
	PID      int                      `json:"pid"`
	Version  string                   `json:"version"` // hostctl's
	Machines map[string]MachineStatus `json:"machines"`
}

// MachineStatus is what the agent does for one running machine.
type MachineStatus struct {
	// Forwards are the machine's forwards that the agent carries; none for a
	// provider that forwards by itself.
	Forwards []Forward `json:"forwards"`
	// Published are the ports that running containers publish.
	Published []Published `json:"published"`
	// Networks are the host-only networks on which the agent's switch joined
	// the machine.
	Networks []string `json:"networks"`
	// Shares are those that the agent serves to the guest.
	Shares []Share `json:"shares,omitempty"`
	// Mirrors are those of which the agent keeps the guest's copy.
	Mirrors []Mirror `json:"mirrors,omitempty"`
	// Error is why the agent cannot do its work for the machine, or "".
	Error string `json:"error,omitempty"`
}

// Forward is a forward that the agent carries. Error is why it does not, or "".
type Forward struct {
	network.Forward
	Error string `json:"error,omitempty"`
}

// Published is a container's published port. The name of its forward is
// "CONTAINER:PRIVATE/PROTOCOL"; the guest's port is the published one.
type Published struct {
	Forward
	Container string `json:"container"` // its name
	GuestIP   string `json:"guest_ip"`  // what it is bound to in the guest, for instance "127.0.0.1"
	// Moved means that the host's port is another than the published one, which
	// is not free or not for this user to have.
	Moved bool `json:"moved,omitempty"`
}

// Share is a folder that the agent serves by NFS. Error is why it does not, and
// Notice why programs in the guest do not learn at once what changes in it, or
// "".
type Share struct {
	Name    string         `json:"name"`
	Host    string         `json:"host"`
	Address netip.AddrPort `json:"address,omitzero"` // of this host, where the server listens
	Notice  string         `json:"notice,omitempty"`
	Error   string         `json:"error,omitempty"`
}

// What an agent does about a [Mirror].
const (
	MirrorConnecting = "connecting" // the guest does not answer
	MirrorCopying    = "copying"    // a run is under way
	MirrorWatching   = "watching"
	MirrorScanning   = "scanning" // instead of watching: Notice says why
)

// Mirror is a folder of which the guest has a copy.
type Mirror struct {
	Name  string `json:"name"`
	Host  string `json:"host"`
	State string `json:"state"`
	// Files is how many of Total the run that is under way has copied.
	Files int `json:"files,omitempty"`
	Total int `json:"total,omitempty"`
	// Last is when a run ended with both sides alike.
	Last   time.Time `json:"last,omitzero"`
	Notice string    `json:"notice,omitempty"`
	// Error is what keeps both sides from being alike, or "".
	Error string `json:"error,omitempty"`
}
