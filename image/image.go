// Package image finds, downloads, verifies and caches the read-only disks that
// machines boot from, and knows what each family of guests accepts.
package image

// Guest is what an image's operating system accepts and runs: what a generated
// config must respect. Every field comes from the catalog's table.
type Guest struct {
	Family        string    `json:"family"`                 // "dockerhost", "flatcar", "fedora-coreos"
	IgnitionKey   string    `json:"ignition_key"`           // fw_cfg name
	IgnitionSpec  string    `json:"ignition_spec"`          // the spec version to write, for instance "3.3.0"
	IgnitionMax   string    `json:"ignition_max,omitempty"` // the newest stable spec version it accepts, of users' own configs
	ButaneVariant string    `json:"butane_variant"`         // "flatcar" or "fcos"
	ButaneVersion string    `json:"butane_version"`         // the version that translates to IgnitionSpec
	User          string    `json:"user"`                   // the login user
	UID           uint32    `json:"uid,omitempty"`          // the login user's number, and that of the group; see UserID
	Home          string    `json:"home"`                   // the login user's home, without links: systemd mounts need it
	DockerGroup   bool      `json:"docker_group,omitempty"` // User must still be put into group docker
	DockerLink    bool      `json:"docker_link,omitempty"`  // docker.service starts at boot only by a link of its own, not by its preset
	Updates       Updates   `json:"updates,omitempty"`
	NICs          NICFormat `json:"nics,omitempty"`
}

// UserID is the login user's number. What was written down before guests had
// one has the number of its family.
func (g Guest) UserID() uint32 {
	if g.UID != 0 {
		return g.UID
	}
	for _, e := range Catalog() {
		if e.Guest.Family == g.Family {
			return e.Guest.UID
		}
	}
	return 1000 // what systems give to their first user
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
	Source   string `json:"source"` // catalog name, imported name, absolute path, or https URL
	Channel  string `json:"channel,omitempty"`
	Stream   string `json:"stream,omitempty"`
	Version  string `json:"version,omitempty"`
	Arch     string `json:"arch"`               // "amd64" or "arm64"
	Checksum string `json:"checksum,omitempty"` // "sha256:HEX" or "sha512:HEX"
	Family   string `json:"family,omitempty"`   // of a path or URL
}

// Image is a verified disk on this host.
type Image struct {
	Ref      Ref       `json:"ref"`
	Version  string    `json:"version,omitempty"` // what the publisher calls it
	Arch     string    `json:"arch"`
	Path     string    `json:"path"`   // the disk; read-only by convention
	Format   string    `json:"format"` // "qcow2" or "raw"
	Size     uint64    `json:"size"`   // virtual size in bytes
	Guest    Guest     `json:"guest"`
	Firmware *Firmware `json:"firmware,omitempty"` // nil: BIOS on amd64, the host's edk2 on arm64
}

// Firmware is the UEFI that the publisher ships with the image.
type Firmware struct {
	Code   string `json:"code"`   // path
	Vars   string `json:"vars"`   // path
	Format string `json:"format"` // "qcow2" or "raw"
}
