package libvirt

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Everything of hostctl's on a libvirt is named so that it is recognised:
//
//	hostctl-PROJECT-MACHINE               a domain
//	hostctl-PROJECT-MACHINE.ID.disk       its volumes, of these and others of the
//	                                      kinds below; ID begins the domain's own
//	hostctl-PROJECT                       the project's NAT network
//	hostctl-PROJECT-NETWORK.net           a host-only network
//	hostctl-base-KEY, hostctl-firmware-KEY  volumes that domains share
const prefix = "hostctl-"

// Kinds of a domain's volumes.
const (
	diskVolume     = "disk"   // the overlay
	ignitionVolume = "ign"    // what the guest is given at its first boot
	varsVolume     = "vars"   // the domain's copy of the firmware's variables
	serialVolume   = "serial" // what the guest writes; made by the first start
	basePrefix     = prefix + "base-"
	firmwarePrefix = prefix + "firmware-"
)

func domainName(project, machine string) string { return prefix + project + "-" + machine }

// machineName is the other way round; ok is false for another project's domain.
func machineName(project, domain string) (string, bool) {
	return strings.CutPrefix(domain, prefix+project+"-")
}

func volumeName(project, machine, id, kind string) string {
	return fmt.Sprintf("%s.%s.%s", domainName(project, machine), shortID(id), kind)
}

func shortID(id string) string { return id[:min(8, len(id))] }

var volumePattern = regexp.MustCompile(`^(.*)\.([0-9a-f]{8})\.(disk|ign|vars|serial(?:\.[0-9]+)?)$`)

// isVolumeOf reports whether a volume is one of the machine's, of whatever id it
// was made for.
func isVolumeOf(project, machine, volume string) bool {
	m := volumePattern.FindStringSubmatch(volume)
	return m != nil && m[1] == domainName(project, machine)
}

func natNetworkName(project string) string { return prefix + project }

func hostOnlyNetworkName(project, network string) string {
	return prefix + project + "-" + network + ".net"
}

// bridgeName names a network's bridge on libvirt's host: an interface's name has
// at most 15 characters.
func bridgeName(network string) string {
	sum := sha256.Sum256([]byte(network))
	return "hc-" + hex.EncodeToString(sum[:4])
}

// checkName makes sure that a machine's name is one part of a name of libvirt's;
// machine names are DNS labels.
func checkName(name string) error {
	if name == "" || name == "." || name != filepath.Base(name) || strings.ContainsAny(name, `/\.`) {
		return fmt.Errorf("domain name %q is not a DNS label", name)
	}
	return nil
}
