package network

import (
	"fmt"
	"net/netip"
)

// FullError says that a subnet has too few addresses.
type FullError struct {
	Prefix netip.Prefix
	Guests int // that it has room for
}

func (e *FullError) Error() string {
	return fmt.Sprintf("%s has addresses for %d machines, no more", e.Prefix, e.Guests)
}

// HostAddress returns the host's own address on a host-only network: the
// first after that of the network itself.
func HostAddress(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

// AssignAddresses gives every machine an IPv4 address on the host-only network
// p. previous has an entry for each: the address it had before, which it keeps
// while that is free, or the zero Addr. The others get the lowest free ones
// above the host's. taken are those of machines that are not asked about:
// written in the machine file, or assigned earlier. The result is in the order
// of previous. Too many machines give a *[FullError].
func AssignAddresses(p netip.Prefix, taken, previous []netip.Addr) ([]netip.Addr, error) {
	p = p.Masked()
	host, broadcast := HostAddress(p), lastAddress(p)
	usable := func(a netip.Addr) bool {
		return p.Contains(a) && a != p.Addr() && a != host && a != broadcast
	}
	used := make(map[netip.Addr]bool, len(taken)+len(previous))
	for _, a := range taken {
		used[a] = true
	}
	out := make([]netip.Addr, len(previous))
	for i, a := range previous {
		if usable(a) && !used[a] {
			used[a], out[i] = true, a
		}
	}
	next := host.Next()
	for i := range out {
		if out[i].IsValid() {
			continue
		}
		for usable(next) && used[next] {
			next = next.Next()
		}
		if !usable(next) {
			return nil, &FullError{Prefix: p, Guests: max(0, 1<<(32-p.Bits())-3)}
		}
		used[next], out[i] = true, next
	}
	return out, nil
}

// lastAddress returns p's broadcast address.
func lastAddress(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}
