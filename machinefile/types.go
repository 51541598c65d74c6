// Package machinefile turns a machine file (HCL) into a typed, validated
// [Config], or into diagnostics that name the file, the line and the mend.
package machinefile

import (
	"net/netip"

	"github.com/hashicorp/hcl/v2"
)

// FileName is the name hostctl looks for in the working directory and its
// parents.
const FileName = "machine.hcl"

// Size is an amount of memory or disk in bytes.
type Size uint64

// Units of [Size].
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// Config is a validated machine file with count and for_each expanded.
type Config struct {
	Path     string     // absolute path of the machine file
	Dir      string     // the project directory: the machine file's folder
	Machines []*Machine // in file order; instances of one block in index order
	Images   []*Image   // declared image blocks, in file order
	Networks []*Network // declared network blocks, in file order
	Shares   []Share    // declared outside of machine blocks, in file order
	Libvirt  Libvirt
}

// Libvirt is the block provider "libvirt": where its machines run.
type Libvirt struct {
	URI  string // as libvirt writes it, for instance "qemu+ssh://host/system"; "": not in the file
	Pool string // storage pool of the machines' disks; "" is the provider's default

	// Range is the block's header.
	Range hcl.Range
	// ranges holds the value ranges of the block's attributes by name.
	ranges map[string]hcl.Range
}

// RangeOf returns where the attribute's value stands in the machine file, or
// the block's header when the file does not set it. Without a block it is zero.
func (l *Libvirt) RangeOf(attribute string) hcl.Range {
	if r, ok := l.ranges[attribute]; ok {
		return r
	}
	return l.Range
}

// Kinds of networks.
const (
	HostOnly = "hostonly"
	Bridged  = "bridged"
)

// Network is a declared network. Machines are on those that they name.
type Network struct {
	Name       string       // block label, unique in the project
	Kind       string       // [HostOnly] or [Bridged]
	CIDR       netip.Prefix // host-only: masked, IPv4; the host has its first address
	Interfaces []string     // bridged: the first that this host has is used; none: the user is asked

	// Range is the block's header.
	Range hcl.Range
	// ranges holds the value ranges of the block's attributes by name.
	ranges map[string]hcl.Range
}

// RangeOf returns where the attribute's value stands in the machine file, or
// the block's header when the file does not set it.
func (n *Network) RangeOf(attribute string) hcl.Range {
	if r, ok := n.ranges[attribute]; ok {
		return r
	}
	return n.Range
}

// Attachment puts a machine on a network.
type Attachment struct {
	Network *Network
	Address netip.Addr // host-only: the guest's; zero: hostctl assigns one

	// Range is the value of address, or the block's header without one.
	Range hcl.Range
}

// Machine is one VM of the project.
type Machine struct {
	Name     string // a DNS label, unique in the project
	Provider string // "qemu" or "libvirt"
	Image    *Image
	CPUs     int
	Memory   Size
	Disk     Size   // 0: the default, DefaultDisk or as large as a larger image
	Accel    string // "": probe; else "kvm", "hvf", "whpx" or "tcg"
	Docker   Docker
	Forwards []Forward
	NAT      bool         // default true: the way to the world, on which forwards arrive
	Networks []Attachment // in file order; a network at most once
	Shares   []Share      // those of all machines, then its own; one replaces that of its name

	// Range is the machine block's header.
	Range hcl.Range
	// ranges holds the value ranges of the block's attributes by name.
	ranges map[string]hcl.Range
}

// RangeOf returns where the attribute's value stands in the machine file, or
// the block's header when the file does not set it.
func (m *Machine) RangeOf(attribute string) hcl.Range {
	if r, ok := m.ranges[attribute]; ok {
		return r
	}
	return m.Range
}

// Image says where a machine's base disk comes from. A machine that names a
// catalog entry directly (image = "dockerhost") has an Image with only Source.
type Image struct {
	Name     string // block label; "" when a machine names the catalog directly
	Source   string // catalog name, absolute path, or https URL
	Channel  string // Flatcar: "stable", "beta", "alpha", "lts"; "" is the catalog's default
	Stream   string // Fedora CoreOS: "stable", "testing", "next"; "" is the catalog's default
	Version  string // pins a published version; "" is the newest
	Arch     string // "amd64" or "arm64"; "" is the host's
	Checksum string // "sha256:HEX" or "sha512:HEX"; required for URLs, optional for paths
	Family   string // guest family of a path or URL: "dockerhost", "flatcar", "fedora-coreos"

	// Range is the image block's header, or the value that named the catalog.
	Range hcl.Range
	// ranges holds the value ranges of the block's attributes by name.
	ranges map[string]hcl.Range
}

// RangeOf returns where the attribute's value stands in the machine file, or
// the block's header when the file does not set it.
func (i *Image) RangeOf(attribute string) hcl.Range {
	if r, ok := i.ranges[attribute]; ok {
		return r
	}
	return i.Range
}

// Docker says how the guest's Docker API is offered.
type Docker struct {
	Enabled  bool   // default true
	Port     uint16 // guest port of docker-tcp.socket; default 2375
	Insecure bool   // allows a plain-text forward on other than loopback
	// PublishPorts forwards the ports that containers publish to the same
	// ports of the host's loopback. Default true.
	PublishPorts bool

	// Range is the docker block's header, or the machine's when there is none.
	Range hcl.Range
}

// Forward asks for a host port that leads to a guest port.
type Forward struct {
	Name        string     // block label, or LABEL-GUESTPORT in a range; unique in the machine
	Protocol    string     // "tcp" or "udp"
	HostIP      netip.Addr // IPv4
	HostPort    uint16
	GuestPort   uint16
	AutoCorrect bool // take the next free port when HostPort is taken

	// Range is the forward block's header. The forwards of one block, made of a
	// range of ports, share it.
	Range hcl.Range
	// hostPorts is the block's range; zero for a single port.
	hostPorts portRange
}

// ShareType says how a host folder gets into guests.
type ShareType string

// Types of shares.
const (
	NFS  ShareType = "nfs"  // mounted: what is changed on one side is so on the other
	SFTP ShareType = "sftp" // mirrored: the guest has a copy on its own disk
)

// ShareServer is what serves an NFS share.
type ShareServer string

// Servers of NFS shares.
const (
	EmbeddedServer ShareServer = "embedded" // the project's agent, without root
	SystemServer   ShareServer = "system"   // the host's own NFS server, by /etc/exports
)

// Direction says which side of a mirrored share follows which.
type Direction string

// Directions of SFTP shares.
const (
	Push Direction = "push" // host to guest
	Both Direction = "both"
)

// Share is a host folder seen in guests.
type Share struct {
	Name     string    // block label: letters, digits, - and _; unique in the machine
	Type     ShareType // default [NFS]
	Host     string    // absolute and clean; whether it exists is not looked at here
	Guest    string    // absolute and clean; no other share's, nor in or above one
	Create   bool      // make Host if it is missing
	ReadOnly bool      // nfs

	Server ShareServer // nfs: default [EmbeddedServer]; else ""
	// MountOptions are nfs's, one each and without spaces, in file order. What
	// hostctl decides by itself, and what kernels refuse, is not among them.
	MountOptions []string
	Events       bool      // nfs: host changes are replayed in the guest; default true
	Direction    Direction // sftp: default [Push]; else ""
	Ignore       []string  // lines of a .gitignore: neither mirrored nor replayed

	// Range is the share block's header.
	Range hcl.Range
	// ranges holds the value ranges of the block's attributes by name.
	ranges map[string]hcl.Range
}

// RangeOf returns where the attribute's value stands in the machine file, or
// the block's header when the file does not set it.
func (s *Share) RangeOf(attribute string) hcl.Range {
	if r, ok := s.ranges[attribute]; ok {
		return r
	}
	return s.Range
}
