package exports

import (
	"fmt"
	"net"
	"strings"
)

// darwinLines are the same for macOS (exports(5) of macOS 10.9 and newer): a line
// per folder and client, because a line takes one network only.
func darwinLines(r Request, o Owner) []string {
	var lines []string
	for _, e := range sorted(r.Exports) {
		for _, c := range e.Clients {
			words := []string{`"` + e.Path + `"`}
			if e.ReadOnly {
				words = append(words, "-ro")
			}
			words = append(words, fmt.Sprintf("-mapall=%d:%d", o.UID, o.GID))
			if c.IsSingleIP() {
				words = append(words, c.Addr().String())
			} else {
				mask := net.IP(net.CIDRMask(c.Bits(), c.Addr().BitLen()))
				words = append(words, "-network", c.Addr().String(), "-mask", mask.String())
			}
			lines = append(lines, strings.Join(words, " "))
		}
	}
	return lines
}
