package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// parseLeases reads dnsmasq's file: a line per lease, with the time it ends, the
// hardware address, the address, the name and the client's id.
func parseLeases(data string) (map[string]netip.Addr, error) {
	leases := map[string]netip.Addr{}
	for line := range strings.Lines(data) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("lease %q", line)
		}
		addr, err := netip.ParseAddr(fields[2])
		if err != nil {
			return nil, err
		}
		leases[strings.ToLower(fields[1])] = addr
	}
	return leases, nil
}
