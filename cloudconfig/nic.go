package cloudconfig

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/hostctl/hostctl/image"
)

// NIC is a network card that gets a file of its own in the guest. It is matched
// by its hardware address, as the names of cards differ between families and
// hypervisors.
type NIC struct {
	Name      string // of the network, unique in the machine; part of the file's name
	MAC       net.HardwareAddr
	Addresses []netip.Prefix // static addresses; none: DHCP
}

// addNICs adds the files that configure the cards.
func (d *document) addNICs(format image.NICFormat, nics []NIC) error {
	for _, nic := range nics {
		switch format {
		case image.Networkd:
			d.addFile("/etc/systemd/network/10-"+nic.Name+".network", 0o644, nic.networkd())
		case image.NetworkManager:
			// NetworkManager ignores keyfiles that others can read.
			d.addFile("/etc/NetworkManager/system-connections/"+nic.Name+".nmconnection", 0o600, nic.keyfile())
		default:
			return fmt.Errorf("network %q: unknown format %q of network files", nic.Name, format)
		}
	}
	return nil
}

// networkd returns the card's systemd.network(5) file. It is read before the
// image's own file that asks DHCP on every card.
func (n NIC) networkd() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[Match]\nMACAddress=%s\nType=ether\n\n[Network]\n", n.MAC)
	if len(n.Addresses) == 0 {
		b.WriteString("DHCP=yes\n")
	}
	for _, a := range n.Addresses {
		fmt.Fprintf(&b, "Address=%s\n", a)
	}
	return b.String()
}

// keyfile returns the card's nm-settings-keyfile(5).
func (n NIC) keyfile() string {
	var v4, v6 []netip.Prefix
	for _, a := range n.Addresses {
		if a.Addr().Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[connection]\nid=%s\ntype=ethernet\n\n[ethernet]\nmac-address=%s\n", n.Name, strings.ToUpper(n.MAC.String()))
	section := func(family string, addresses []netip.Prefix, without string) {
		fmt.Fprintf(&b, "\n[%s]\n", family)
		if len(addresses) == 0 {
			fmt.Fprintf(&b, "method=%s\n", without)
			return
		}
		b.WriteString("method=manual\n")
		for i, a := range addresses {
			fmt.Fprintf(&b, "address%d=%s\n", i+1, a)
		}
	}
	withoutV4 := "auto"
	if len(v6) > 0 {
		withoutV4 = "disabled"
	}
	section("ipv4", v4, withoutV4)
	section("ipv6", v6, "auto")
	return b.String()
}
