// Package cloudconfig renders a machine's first-boot configuration: a Butane
// document, and the Ignition config that the guest's image accepts. It reads
// and writes nothing.
package cloudconfig

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"

	"github.com/hostctl/hostctl/image"
)

// Input is what a config is made from.
type Input struct {
	Hostname   string // a DNS label
	DockerPort uint16 // guest port of docker-tcp.socket; 0: the config has no Docker units
	// DockerAddresses are the guest's addresses at which that port is open;
	// none: at all that it has.
	DockerAddresses []netip.Addr
	Guest           image.Guest
	// AuthorizedKeys are public keys as in authorized_keys, one line each;
	// at least one, or nobody could log in.
	AuthorizedKeys []string
	HostKey        HostKey
	// NICs are the network cards that need files of their own. A card without
	// any, such as the one with the forwards, gets its address by DHCP.
	NICs []NIC
	// Hosts are the names that the guest's /etc/hosts knows; without any, the
	// image's file stays.
	Hosts []Host
}

// HostKey is the guest's own ed25519 key pair. It is made on the host, so that
// the first connection is already verified.
type HostKey struct {
	Private string // OPENSSH PRIVATE KEY block, without a passphrase
	Public  string // one line: "ssh-ed25519 AAAA... [comment]"
}

// Result is a rendered config. Both forms hold the guest's private host key.
type Result struct {
	Butane   []byte // YAML
	Ignition []byte // JSON without blanks, of spec version Guest.IgnitionSpec
}

// PointerLimit is the size in bytes up to which VirtualBox stores a guest
// property: from 7.2 it refuses values over 1 KiB, counting the final NUL
// (coreos/ignition#2226).
const PointerLimit = 1023

// Butane returns the machine's config as a Butane document. Equal inputs give
// equal bytes.
func Butane(in Input) ([]byte, error) {
	name := in.Hostname
	switch {
	case len(in.AuthorizedKeys) == 0:
		return nil, fmt.Errorf("config of %q: no authorised key for user %q", name, in.Guest.User)
	case in.HostKey.Private == "" || in.HostKey.Public == "":
		return nil, fmt.Errorf("config of %q: no SSH host key", name)
	}
	doc, err := newDocument(in)
	if err != nil {
		return nil, fmt.Errorf("config of %q: %w", name, err)
	}
	out, err := doc.yaml()
	if err != nil {
		return nil, fmt.Errorf("config of %q: %w", name, err)
	}
	return out, nil
}

// Render returns the machine's config as a Butane document and as the Ignition
// config made from it, validated against the guest's spec version. Equal inputs
// give equal bytes.
func Render(in Input) (Result, error) {
	doc, err := Butane(in)
	if err != nil {
		return Result{}, err
	}
	ign, err := toIgnition(doc, in.Guest)
	if err != nil {
		return Result{}, fmt.Errorf("config of %q: %w", in.Hostname, err)
	}
	return Result{Butane: doc, Ignition: ign}, nil
}

// Pointer returns an Ignition config of at most [PointerLimit] bytes that makes
// the guest fetch config from source, an http or https URL, and refuse any
// other bytes.
func Pointer(g image.Guest, source string, config []byte) ([]byte, error) {
	if source == "" {
		return nil, errors.New("pointer config: no source")
	}
	sum := sha512.Sum512(config)
	doc, err := document{
		Variant: g.ButaneVariant,
		Version: g.ButaneVersion,
		Ignition: &ignitionSection{Config: ignitionConfig{Replace: resource{
			Source:       source,
			Verification: &verification{Hash: "sha512-" + hex.EncodeToString(sum[:])},
		}}},
	}.yaml()
	if err != nil {
		return nil, fmt.Errorf("pointer config: %w", err)
	}
	ign, err := toIgnition(doc, g)
	if err != nil {
		return nil, fmt.Errorf("pointer config: %w", err)
	}
	if len(ign) > PointerLimit {
		return nil, fmt.Errorf("pointer config: %d bytes, at most %d fit: the source URL is too long", len(ign), PointerLimit)
	}
	return ign, nil
}
