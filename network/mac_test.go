package network_test

import (
	"testing"

	"github.com/hostctl/hostctl/network"
)

func TestMACDependsOnDomainAndNetwork(t *testing.T) {
	t.Parallel()
	const a, b = "6f0e3f0a-5a8b-4a51-9a55-0f3f6c1a9b01", "6f0e3f0a-5a8b-4a51-9a55-0f3f6c1a9b02"
	seen := map[string]bool{}
	for _, of := range [][2]string{{a, ""}, {b, ""}, {a, "dev"}, {a, "lan"}, {b, "dev"}} {
		mac := network.MAC(of[0], of[1])
		if mac[0] != 0x52 || mac[1] != 0x54 || mac[2] != 0 || seen[mac.String()] {
			t.Errorf("%q: %s", of, mac)
		}
		seen[mac.String()] = true
		if again := network.MAC(of[0], of[1]); again.String() != mac.String() {
			t.Errorf("%q: %s, then %s", of, mac, again)
		}
	}
}
