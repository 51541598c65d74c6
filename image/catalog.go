package image

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Entry is one name of the catalog: where its images come from, how they are
// proven, and what their guests accept.
type Entry struct {
	Name    string
	Summary string // one line for lists
	Guest   Guest  // of the newest version
	Specs   []Spec // ascending by Since

	// TrackKind is the machine file's word for Tracks: "channel", "stream",
	// or "" for an image without any.
	TrackKind string
	Tracks    []Track           // the first is the default
	Arches    map[string]string // hostctl's architecture to the publisher's; nil: the host's only

	Keys   []string // fingerprints of the primary keys that may sign
	KeyURL string   // where the publisher offers those keys

	Publisher Publisher // nil: built on this host
}

// Track is a line of releases that a user can follow.
type Track struct {
	Name string
	// URL is the folder of a Flatcar channel's releases, or the file that
	// describes a Fedora CoreOS stream.
	URL string
	// Current is the folder below URL's architecture whose version.txt names
	// the newest release; Flatcar only.
	Current string
	// Series is the major version that the track stays with; "" when it
	// follows the newest.
	Series string
}

// Spec says that releases from major version Since on accept Ignition configs
// up to spec version Max.
type Spec struct {
	Since int
	Max   string
}

// Publisher finds releases on one publisher's server. The implementations are
// [Flatcar] and [FedoraCoreOS].
type Publisher interface {
	// release describes what to download for a version, or for the newest
	// one when version is "". arch is the publisher's word.
	release(ctx context.Context, get getter, track Track, arch, version string) (*release, error)
}

// Catalog returns the images that hostctl knows by name.
//
// Each fact has its source beside it; "scripts" is the repository
// flatcar/scripts, "fdocs" coreos/fedora-coreos-docs. No version is written
// down here: the publishers are asked.
func Catalog() []Entry {
	return []Entry{
		{
			Name:    "dockerhost",
			Summary: "hostctl's own guest: Debian with Ignition and Docker, built by scripts/build-image",
			Guest: Guest{
				Family:        "dockerhost",
				IgnitionKey:   "opt/com.coreos/config",
				IgnitionSpec:  "3.3.0", // Debian 12 has Ignition 2.14
				IgnitionMax:   "3.3.0",
				ButaneVariant: "fcos",
				ButaneVersion: "1.4.0",
				User:          "core",
				UID:           500, // as in Flatcar
				Home:          "/home/core",
				NICs:          Networkd,
			},
		},
		{
			Name:    "flatcar",
			Summary: "Flatcar Container Linux",
			Guest: Guest{
				Family: "flatcar",
				// opt/com.coreos/config works as well, but with both given one
				// of them wins by chance: scripts, ignition patch 0007.
				IgnitionKey: "opt/org.flatcar-linux/config",
				// Everything maintained accepts 3.3.0: coreos/ignition
				// docs/release-notes.md and the versions in Specs.
				IgnitionSpec:  "3.3.0",
				IgnitionMax:   "3.5.0",
				ButaneVariant: "flatcar",
				ButaneVersion: "1.0.0", // coreos/butane docs/specs.md
				User:          "core",  // exists in the image, in docker and sudo: flatcar/baselayout
				UID:           500,     // the same
				Home:          "/home/core",
				// docker is a system extension since 3761, and its unit's
				// [Install] comes too late: flatcar-website
				// docs/orchestrate/containers/getting-started-with-docker.md
				DockerLink: true,
				Updates:    UpdateEngine,
				NICs:       Networkd,
			},
			// Ignition's version per release: flatcar-website
			// static/releases-json (2.14 in LTS-2023, 2.19 in LTS-2024, 2.24
			// in stable); spec per Ignition: coreos/ignition tags.
			Specs: []Spec{{0, "3.3.0"}, {4081, "3.4.0"}, {4593, "3.5.0"}},

			TrackKind: "channel",
			// flatcar/init bin/flatcar-install; flatcar-website
			// docs/updates-releases/switching-channels.md. "current" of lts
			// jumps to the next major once a year, "current-2024" does not.
			Tracks: []Track{
				{Name: "stable", URL: "https://stable.release.flatcar-linux.net", Current: "current"},
				{Name: "beta", URL: "https://beta.release.flatcar-linux.net", Current: "current"},
				{Name: "alpha", URL: "https://alpha.release.flatcar-linux.net", Current: "current"},
				{Name: "lts", URL: "https://lts.release.flatcar-linux.net", Current: "current-2024", Series: "4081"},
			},
			Arches: map[string]string{"amd64": "amd64-usr", "arm64": "arm64-usr"},

			// "Flatcar Buildbot (Official Builds)"; it signs by subkeys that
			// live one or two years: flatcar-website
			// content/security/image-signing-key.md
			Keys:   []string{"F88CFEDEFF29A5B4D9523864E25D9AED0593B34A"},
			KeyURL: "https://www.flatcar.org/security/image-signing-key/Flatcar_Image_Signing_Key.asc",

			Publisher: Flatcar{
				// scripts build_library/vm_image_util.sh: both boards have
				// this one; qcow2 that is compressed inside.
				Disk: "flatcar_production_qemu_uefi_image.img",
				// Releases before 3602.2.0 have only this: flatcar-website
				// pull request 284.
				Packed: ".bz2",
				// The suffix changed from .fd to .qcow2 with 4152; only arm64
				// needs UEFI.
				Code:         "flatcar_production_qemu_uefi_efi_code",
				Vars:         "flatcar_production_qemu_uefi_efi_vars",
				FirmwareArch: "arm64-usr",
				QcowFirmware: 4152,
				// flatcar-website docs/fb-provision/ignition/specification.md
				Oldest:      3185,
				VersionFile: "version.txt",
				Digests:     ".DIGESTS",
				Signature:   ".sig",
			},
		},
		{
			Name:    "fedora-coreos",
			Summary: "Fedora CoreOS",
			Guest: Guest{
				Family:        "fedora-coreos",
				IgnitionKey:   "opt/com.coreos/config", // fdocs provisioning-qemu.adoc
				IgnitionSpec:  "3.3.0",
				IgnitionMax:   "3.6.0",
				ButaneVariant: "fcos",
				ButaneVersion: "1.4.0", // coreos/butane docs/specs.md
				User:          "core",
				UID:           1000, // the first user of a system: 40ignition-conf/00-core.ign gives none
				// /home is a link to /var/home, and systemd refuses mount
				// points behind links: fdocs storage.adoc
				Home: "/var/home/core",
				// core is made by Ignition's base config, without docker:
				// coreos/fedora-coreos-config 40ignition-conf/00-core.ign
				DockerGroup: true,
				Updates:     Zincati,
				NICs:        NetworkManager, // fdocs sysconfig-network-configuration.adoc
			},
			// Ignition 2.26 in Fedora 44: fdocs antora.yml. Older streams:
			// what every maintained release took.
			Specs: []Spec{{0, "3.4.0"}, {44, "3.6.0"}},

			TrackKind: "stream",
			// fdocs stream-metadata.adoc
			Tracks: []Track{
				{Name: "stable", URL: "https://builds.coreos.fedoraproject.org/streams/stable.json"},
				{Name: "testing", URL: "https://builds.coreos.fedoraproject.org/streams/testing.json"},
				{Name: "next", URL: "https://builds.coreos.fedoraproject.org/streams/next.json"},
			},
			Arches: map[string]string{"amd64": "x86_64", "arm64": "aarch64"},

			// One key per Fedora release: coreos/coreos-installer
			// src/signing-keys.asc
			Keys: []string{
				"C6E7F081CF80E13146676E88829B606631645531", // 43
				"36F612DCF27F7D1A48A835E4DBFCF71C6D9F90A6", // 44
				"4F50A6114CD5C6976A7F1179655A4B02F577861E", // 45
			},
			KeyURL: "https://fedoraproject.org/fedora.gpg",

			Publisher: FedoraCoreOS{
				Platform: "qemu",
				Format:   "qcow2.xz",
				// The builds of a stream: fdocs stream-metadata.adoc. Pinned
				// versions that are no longer current are found here.
				Builds: "https://builds.coreos.fedoraproject.org/prod/streams/%s/builds/%s/%s/",
			},
		},
	}
}

// guest returns what a given version's guest accepts.
func (e *Entry) guest(version string) Guest {
	g := e.Guest
	if major := majorOf(version); major > 0 {
		for _, s := range e.Specs {
			if major >= s.Since {
				g.IgnitionMax = s.Max
			}
		}
	}
	return g
}

// track returns the named track, or the default one.
func (e *Entry) track(name string) (Track, bool) {
	if len(e.Tracks) == 0 {
		return Track{}, name == ""
	}
	for _, t := range e.Tracks {
		if t.Name == name || name == "" {
			return t, true
		}
	}
	return Track{}, false
}

func (e *Entry) trackNames() []string {
	var names []string
	for _, t := range e.Tracks {
		names = append(names, t.Name)
	}
	return names
}

func (e *Entry) archNames() []string { return slices.Sorted(maps.Keys(e.Arches)) }

// majorOf returns the number before a version's first dot, or 0.
func majorOf(version string) int {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return 0
	}
	return n
}
