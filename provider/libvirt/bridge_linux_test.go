package libvirt_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// A guest is on a network of the host's, by its bridge or by an interface of the
// host's that is none.
func TestBridged(t *testing.T) {
	for _, c := range []lab.LANConfig{
		{Name: "lan0", Prefix: netip.MustParsePrefix("10.77.0.0/24")},
		{Name: "lan1", Prefix: netip.MustParsePrefix("10.78.0.0/24"), Bridge: true},
	} {
		t.Run(c.Name, func(t *testing.T) {
			s := newSite(t, "qemu:///system")
			lan := lab.NewLAN(t, c)
			b, _ := provider.As[provider.Bridger](s.p)
			have, err := b.BridgeInterfaces(t.Context())
			s.ok(err)
			// A wire between namespaces is none of the host's own.
			if _, err := network.ChooseInterface([]string{lan.Interface}, have); (err == nil) != c.Bridge {
				t.Errorf("interfaces are %v: %v", have, err)
			}
			s.d.NICs = []provider.NIC{{Network: "lan", MAC: network.MAC(s.d.ID, "lan").String(), Interface: lan.Interface}}
			s.up()
			s.ok(s.p.Stop(t.Context(), "core"))

			s.d.NICs[0].Interface = "eth77"
			err = s.p.Create(t.Context(), s.d)
			if f, ok := errors.AsType[*provider.FieldError](err); !ok || f.Field != "interface" || f.Network != "lan" {
				t.Errorf("an interface that there is not: %v", err)
			}
		})
	}
}
