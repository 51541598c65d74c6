package network

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/vishvananda/netlink"
)

// HostInterfaces lists the interfaces that a bridged network can use: Ethernet
// cards, bonds, VLANs and bridges of the host's own, the one of its default
// route first. Interfaces that are ports of another, those that lead to
// containers, guests or VPNs, and their bridges are left out. Wireless ones
// are labelled and come late: most access points drop what a guest sends.
func HostInterfaces(ctx context.Context) ([]Interface, error) {
	links, err := dump(ctx, netlink.LinkList)
	if err != nil {
		return nil, err
	}
	var wired, radio []Interface
	for _, l := range links {
		usable, err := bridgeable(l)
		if err != nil {
			return nil, err
		}
		if !usable {
			continue
		}
		i := Interface{Name: l.Attrs().Name, Bridge: l.Type() == "bridge"}
		if wireless(i.Name) {
			i.Label = i.Name + ": Wi-Fi"
			radio = append(radio, i)
			continue
		}
		wired = append(wired, i)
	}
	out := slices.Concat(wired, radio)
	return out, sortByWayOut(ctx, out)
}

// privateBridge matches the bridges behind which Docker, libvirt, Podman,
// CNI, LXC, LXD, Incus and hostctl's own providers keep networks of their own.
var privateBridge = regexp.MustCompile(`^(docker\d+|docker_gwbridge|br-[0-9a-f]{12}|virbr\d+|podman\d+|cni-?[\w-]*|lxcbr\d+|lxdbr\d+|incusbr\d+|hc-[0-9a-f]{8})$`)

func bridgeable(l netlink.Link) (bool, error) {
	a := l.Attrs()
	if a.Flags&net.FlagLoopback != 0 || len(a.HardwareAddr) != 6 || a.EncapType != "ether" || a.MasterIndex != 0 {
		return false, nil
	}
	switch l.Type() {
	case "device", "bond", "team", "vlan":
		return true, nil
	case "bridge":
		return !privateBridge.MatchString(a.Name), nil
	case "veth":
		// The other ends of containers have none: this one is the card of the
		// container, or of the namespace, that hostctl itself runs in.
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		return slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IP.IsGlobalUnicast() }), err
	default:
		return false, nil
	}
}

func wireless(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name, "phy80211"))
	return err == nil
}
