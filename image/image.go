// Package image finds, downloads, verifies and caches the read-only disks that
// machines boot from, and knows what each family of guests accepts.
package image

// Guest is what an image's operating system accepts and runs: what a generated
// config must respect. Every field comes from the catalog's table.
type Guest struct {
	Family        string // "dockerhost", "flatcar", "fedora-coreos"
	IgnitionKey   string // fw_cfg name
	IgnitionSpec  string // the spec version to write, for instance "3.3.0"
	IgnitionMax   string // the newest stable spec version it accepts, of users' own configs
	ButaneVariant string // "flatcar" or "fcos"
	ButaneVersion string // the version that translates to IgnitionSpec
	User          string // the login user
	Home          string // the login user's home, without links: systemd mounts need it
	DockerGroup   bool   // User must still be put into group docker
	DockerLink    bool   // docker.service starts at boot only by a link of its own, not by its preset
	Updates       Updates
	NICs          NICFormat
}

// Updates names what in the guest updates the system and reboots it unasked.
type Updates string

// Updaters of the known families. The zero value updates nothing by itself.
const (
	UpdateEngine Updates = "update-engine" // Flatcar, with locksmith for the reboots
	Zincati      Updates = "zincati"       // Fedora CoreOS
)

// NICFormat says which files configure the guest's network cards.
type NICFormat string

// Formats of the known families.
const (
	Networkd       NICFormat = "networkd"       // .network files of systemd-networkd
	NetworkManager NICFormat = "networkmanager" // keyfiles
)

// Ref asks for an image. The zero values of Channel, Stream, Version and Arch
// mean the catalog's default.
type Ref struct {
	Source   string // catalog name, imported name, absolute path, or https URL
	Channel  string
	Stream   string
	Version  string
	Arch     string // "amd64" or "arm64"
	Checksum string // "sha256:HEX" or "sha512:HEX"
	Family   string // of a path or URL
}

// Image is a verified disk on this host.
type Image struct {
	Ref      Ref
	Version  string // what the publisher calls it
	Arch     string
	Path     string // the disk; read-only by convention
	Format   string // "qcow2" or "raw"
	Size     uint64 // virtual size in bytes
	Guest    Guest
	Firmware *Firmware // nil: BIOS on amd64, the host's edk2 on arm64
}

// Firmware is the UEFI that the publisher ships with the image.
type Firmware struct {
	Code, Vars string // paths
	Format     string // "qcow2" or "raw"
}
