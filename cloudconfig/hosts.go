package cloudconfig

import (
	"fmt"
	"net/netip"
	"strings"
)

// Host is a name that the guest resolves.
type Host struct {
	Name    string
	Address netip.Addr
}

// localHosts is what every system's /etc/hosts has.
const localHosts = `127.0.0.1 localhost localhost.localdomain localhost4 localhost4.localdomain4
::1 localhost localhost.localdomain localhost6 localhost6.localdomain6 ip6-localhost ip6-loopback
`

// Around the lines of /etc/hosts that are hostctl's.
const (
	hostsBegin = "# BEGIN hostctl: machines of the project"
	hostsEnd   = "# END hostctl"
)

// HostsBlock returns the lines of /etc/hosts that are hostctl's; "" without
// hosts.
func HostsBlock(hosts []Host) string {
	if len(hosts) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintln(&b, hostsBegin)
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s %s\n", h.Address, h.Name)
	}
	fmt.Fprintln(&b, hostsEnd)
	return b.String()
}

// HostsCommand is a command line for the guest's shell that puts a block of
// [HostsBlock], which it reads from standard input, in the place of the one in
// /etc/hosts. The file is replaced whole; the lines that are not hostctl's stay.
const HostsCommand = `sudo sh -c 'set -e; new=$(mktemp /etc/hosts.XXXXXX); trap "rm -f $new" EXIT
sed "/^# BEGIN hostctl/,/^# END hostctl/d" /etc/hosts > "$new"; cat >> "$new"
chmod 644 "$new"; chcon --reference=/etc/hosts "$new" 2>/dev/null || true; mv "$new" /etc/hosts'`
