package libvirt

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"

	"libvirt.org/go/libvirtxml"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// surroundings is what libvirt's host adds to a domain to make a definition. The paths
// are that host's.
type surroundings struct {
	project  string
	record   record
	accel    string // "kvm" or "tcg"
	disk     string
	ignition string
	serial   string
	firmware *provider.Firmware // Vars is the domain's own copy
	// keepOwner says that the base image is the user's file, which libvirt must not
	// give to QEMU's user.
	keepOwner bool
	// bridges are the interfaces of bridged networks that are bridges already.
	bridges map[string]bool
	// session leaves the way to the world to QEMU's user network.
	session bool
}

// domainXML is the definition of a domain. Devices lie on the root bus, where
// firmware finds them without searching behind a port for each.
func domainXML(d provider.Domain, s surroundings) (string, error) {
	content, err := json.Marshal(s.record)
	if err != nil {
		return "", err
	}
	metadata, err := tag{Project: s.project, Machine: d.Name, Content: string(content)}.element("domain")
	if err != nil {
		return "", err
	}
	kind := "qemu"
	if s.accel == "kvm" {
		kind = "kvm"
	}
	var bus rootBus
	x := libvirtxml.Domain{
		Type:       kind,
		Name:       domainName(s.project, d.Name),
		UUID:       d.ID,
		Title:      "hostctl machine " + d.Name,
		Metadata:   &libvirtxml.DomainMetadata{XML: metadata},
		Memory:     &libvirtxml.DomainMemory{Value: uint(d.Memory), Unit: "MiB"},
		VCPU:       &libvirtxml.DomainVCPU{Value: uint(d.CPUs), Placement: "static"},
		SysInfo:    []libvirtxml.DomainSysInfo{{FWCfg: &libvirtxml.DomainSysInfoFWCfg{Entry: []libvirtxml.DomainSysInfoEntry{{Name: d.Ignition.Key, File: s.ignition}}}}},
		OS:         osXML(d.Arch, s.firmware),
		Features:   features(d, s.accel),
		CPU:        cpu(d.Arch, s.accel),
		Clock:      &libvirtxml.DomainClock{Offset: "utc"},
		OnPoweroff: "destroy",
		OnReboot:   "restart",
		OnCrash:    "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
			Disks:       []libvirtxml.DomainDisk{diskXML(d.Disk, s, bus.next())},
			Interfaces:  interfaces(d, s, &bus),
			Serials:     []libvirtxml.DomainSerial{serialXML(d.Arch, s.serial)},
			MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "none"},
			RNGs: []libvirtxml.DomainRNG{{
				Model:   "virtio",
				Backend: &libvirtxml.DomainRNGBackend{BuiltIn: &libvirtxml.DomainRNGBackendBuiltIn{}},
				Address: bus.next(),
			}},
		},
	}
	return x.Marshal()
}

// rootBus hands out slots of the first PCI bus.
type rootBus struct{ used uint }

func (b *rootBus) next() *libvirtxml.DomainAddress {
	b.used++
	var zero uint
	slot := b.used + 2 // libvirt likes to have the first ones for itself
	return &libvirtxml.DomainAddress{PCI: &libvirtxml.DomainAddressPCI{Domain: &zero, Bus: &zero, Slot: &slot, Function: &zero}}
}

// maxNICs is what the root bus has room for.
const maxNICs = 20

func osXML(arch string, fw *provider.Firmware) *libvirtxml.DomainOS {
	o := &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Type: "hvm", Arch: "x86_64", Machine: "q35"}}
	if arch == "arm64" {
		o.Type.Arch, o.Type.Machine = "aarch64", "virt"
	}
	switch {
	case fw != nil:
		o.Loader = &libvirtxml.DomainLoader{Path: fw.Code, Readonly: "yes", Type: "pflash", Format: notRaw(fw.Format)}
		o.NVRam = &libvirtxml.DomainNVRam{NVRam: fw.Vars, Format: notRaw(fw.Format)}
	case arch == "arm64":
		o.Firmware = "efi" // libvirt's host knows its own
	}
	return o
}

// notRaw leaves out the format that libvirt takes for granted, and by which older
// ones do not know the attribute.
func notRaw(format string) string {
	if format == "raw" {
		return ""
	}
	return format
}

func features(d provider.Domain, accel string) *libvirtxml.DomainFeatureList {
	f := &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}}
	switch {
	case d.Arch != "arm64":
		f.APIC = &libvirtxml.DomainFeatureAPIC{}
	case accel == "kvm":
		f.GIC = &libvirtxml.DomainFeatureGIC{Version: "host"}
	default:
		f.GIC = &libvirtxml.DomainFeatureGIC{Version: "3"} // version 2 ends at 8 CPUs
	}
	return f
}

// cpu chooses as provider/qemu does, for the same reasons.
func cpu(arch, accel string) *libvirtxml.DomainCPU {
	switch {
	case accel == "kvm":
		return &libvirtxml.DomainCPU{Mode: "host-passthrough"}
	case arch == "arm64":
		return &libvirtxml.DomainCPU{Mode: "custom", Match: "exact", Check: "none", Model: &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: "cortex-a57"}}
	default:
		return &libvirtxml.DomainCPU{Mode: "maximum", Features: []libvirtxml.DomainCPUFeature{
			{Policy: "disable", Name: "erms"}, {Policy: "disable", Name: "fsrm"}, {Policy: "disable", Name: "la57"},
		}}
	}
}

// diskXML names the whole chain, so that libvirt looks into no image before it
// starts the guest.
func diskXML(d provider.Disk, s surroundings, address *libvirtxml.DomainAddress) libvirtxml.DomainDisk {
	base := &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: s.record.Base}}
	if s.keepOwner {
		base.File.SecLabel = []libvirtxml.DomainDeviceSecLabel{{Model: "dac", Relabel: "no"}}
	}
	return libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "qcow2", Discard: "unmap"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: s.disk}},
		BackingStore: &libvirtxml.DomainDiskBackingStore{
			Format:       &libvirtxml.DomainDiskFormat{Type: d.BaseFormat},
			Source:       base,
			BackingStore: &libvirtxml.DomainDiskBackingStore{},
		},
		Target:  &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
		Boot:    &libvirtxml.DomainDeviceBoot{Order: 1},
		Address: address,
	}
}

// serialXML begins the log anew with each start.
func serialXML(arch, path string) libvirtxml.DomainSerial {
	var port uint
	target := &libvirtxml.DomainSerialTarget{Port: &port}
	if arch != "arm64" {
		target.Type = "isa-serial"
	}
	return libvirtxml.DomainSerial{
		Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{Path: path, Append: "off"}},
		Target: target,
	}
}

// interfaces has the NAT network's card first, then the others in the domain's
// order.
func interfaces(d provider.Domain, s surroundings, bus *rootBus) []libvirtxml.DomainInterface {
	var all []libvirtxml.DomainInterface
	card := func(mac string, source *libvirtxml.DomainInterfaceSource) {
		all = append(all, libvirtxml.DomainInterface{
			MAC:     &libvirtxml.DomainInterfaceMAC{Address: mac},
			Source:  source,
			Model:   &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			ROM:     &libvirtxml.DomainROM{Enabled: "no"}, // it does not offer to boot from the network
			Address: bus.next(),
		})
	}
	onNetwork := func(name string) *libvirtxml.DomainInterfaceSource {
		return &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: name}}
	}
	if !d.NoNAT {
		nat := &libvirtxml.DomainInterfaceSource{User: &libvirtxml.DomainInterfaceSourceUser{}}
		if !s.session {
			nat = onNetwork(natNetworkName(s.project))
		}
		card(network.MAC(d.ID, "").String(), nat)
	}
	for _, n := range d.NICs {
		mac := cmp.Or(n.MAC, network.MAC(d.ID, n.Network).String())
		switch {
		case n.HostOnly != nil:
			card(mac, onNetwork(hostOnlyNetworkName(s.project, n.Network)))
		case s.bridges[n.Interface]:
			card(mac, &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: n.Interface}})
		default: // the host itself does not reach the guest through a macvtap
			card(mac, &libvirtxml.DomainInterfaceSource{Direct: &libvirtxml.DomainInterfaceSourceDirect{Dev: n.Interface, Mode: "bridge"}})
		}
	}
	return all
}

// parseDomain reads a definition of hostctl's.
func parseDomain(definition string) (libvirtxml.Domain, tag, record, error) {
	var x libvirtxml.Domain
	if err := x.Unmarshal(definition); err != nil {
		return x, tag{}, record{}, fmt.Errorf("libvirt's definition of a domain: %w", err)
	}
	if x.Metadata == nil {
		return x, tag{}, record{}, nil
	}
	t, ok := parseTag(x.Metadata.XML)
	if !ok {
		return x, tag{}, record{}, nil
	}
	var r record
	if err := json.Unmarshal([]byte(t.Content), &r); err != nil {
		return x, t, r, fmt.Errorf("what hostctl noted in %s is damaged: %w", strconv.Quote(x.Name), err)
	}
	return x, t, r, nil
}
