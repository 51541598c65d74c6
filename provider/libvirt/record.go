package libvirt

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hostctl/hostctl/provider"
)

// namespace marks what hostctl keeps in the metadata of domains and networks.
const namespace = "https://github.com/hostctl/hostctl/libvirt/1"

// record is what hostctl remembers of a domain, in libvirt's own definition of
// it. It holds nothing secret: whoever may look at domains reads it.
type record struct {
	// Domain is what Create was given, without the Ignition config.
	Domain   provider.Domain `json:"domain"`
	Ignition string          `json:"ignition_sha256"`
	// Pool holds the domain's volumes.
	Pool string `json:"pool"`
	// Base is the path of what the overlay lies on, on libvirt's host; BaseVolume
	// is its name when it is a volume that hostctl made.
	Base       string `json:"base"`
	BaseVolume string `json:"base_volume,omitempty"`
	// Firmware is the same of the firmware's code.
	FirmwareVolume string `json:"firmware_volume,omitempty"`
	// NAT is the guest's address on the NAT network, and the network's size.
	NAT netip.Prefix `json:"nat,omitzero"`
}

// newRecord leaves out the Ignition config, which holds keys.
func newRecord(d provider.Domain) record {
	sum := sha256.Sum256(d.Ignition.Config)
	d.Ignition.Config = nil
	return record{Domain: d, Ignition: hex.EncodeToString(sum[:])}
}

// equal reports whether both were made from the same domain, whatever its forwards.
func (r record) equal(o record) (bool, error) {
	r.Domain.Forwards, o.Domain.Forwards = nil, nil
	a, err := json.Marshal(record{Domain: r.Domain, Ignition: r.Ignition})
	if err != nil {
		return false, err
	}
	b, err := json.Marshal(record{Domain: o.Domain, Ignition: o.Ignition})
	return bytes.Equal(a, b), err
}

// tag is the element in the metadata.
type tag struct {
	XMLName xml.Name
	Project string `xml:"project,attr"`
	Machine string `xml:"machine,attr,omitempty"`
	Network string `xml:"network,attr,omitempty"`
	Content string `xml:",chardata"`
}

// element renders the tag as libvirt wants metadata: with a prefix.
func (t tag) element(name string) (string, error) {
	return t.render("hostctl:"+name, fmt.Sprintf(" xmlns:hostctl=%q", namespace))
}

// bare renders it for a call that adds the prefix itself.
func (t tag) bare(name string) (string, error) { return t.render(name, "") }

func (t tag) render(name, space string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "<%s%s", name, space)
	for _, a := range [][2]string{{"project", t.Project}, {"machine", t.Machine}, {"network", t.Network}} {
		if a[1] == "" {
			continue
		}
		fmt.Fprintf(&b, ` %s="`, a[0])
		if err := xml.EscapeText(&b, []byte(a[1])); err != nil {
			return "", err
		}
		b.WriteByte('"')
	}
	b.WriteByte('>')
	if err := xml.EscapeText(&b, []byte(t.Content)); err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "</%s>", name)
	return b.String(), nil
}

// parseTag finds the element in a definition's metadata.
func parseTag(metadata string) (tag, bool) {
	var m struct {
		Tags []tag `xml:",any"`
	}
	if xml.Unmarshal([]byte("<metadata>"+metadata+"</metadata>"), &m) != nil {
		return tag{}, false
	}
	for _, t := range m.Tags {
		if t.XMLName.Space == namespace {
			return t, true
		}
	}
	return tag{}, false
}
