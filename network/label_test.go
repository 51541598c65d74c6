package network

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHardwarePorts(t *testing.T) {
	t.Parallel()
	const printed = `
Hardware Port: Ethernet
Device: en0
Ethernet Address: 02:00:00:00:00:01

Hardware Port: Wi-Fi
Device: en1
Ethernet Address: 02:00:00:00:00:02

Hardware Port: Thunderbolt Bridge
Device: bridge0
Ethernet Address: N/A

VLAN Configurations
===================
`
	want := map[string]string{"en0": "en0: Ethernet", "en1": "en1: Wi-Fi", "bridge0": "bridge0: Thunderbolt Bridge"}
	if diff := cmp.Diff(want, hardwarePorts(printed)); diff != "" {
		t.Error(diff)
	}
}
