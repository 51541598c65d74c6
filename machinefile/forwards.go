package machinefile

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// sshPort is where the guest's SSH server listens.
const sshPort = 22

var protocols = []string{"tcp", "udp"}

// decodeForwards reads the forwards of a machine in file order.
func (l *loader) decodeForwards(blocks []labelledBlock, m *Machine, s *scope) {
	reported := map[mistake]bool{}
	names := make(map[string]hcl.Range, len(blocks))
	for _, block := range blocks {
		if first, ok := names[block.label]; ok {
			l.errorf(block.labelRange, "Duplicate forward", "The forward %s is already declared on line %d.", quote(block.label), first.Start.Line)
			continue
		}
		names[block.label] = block.header
		if !hclsyntax.ValidIdentifier(block.label) {
			l.errorf(block.labelRange, "Invalid name", "The name of a forward must start with a letter and have only letters, digits, - and _.")
		}
		before := len(l.diags)
		for _, f := range l.decodeForward(block, m.Docker, s) {
			if f.Name != block.label {
				if first, ok := names[f.Name]; ok {
					l.errorf(block.labelRange, "Duplicate forward", "The range makes a forward %s, which is already declared on line %d.", quote(f.Name), first.Start.Line)
					break
				}
				names[f.Name] = block.header
			}
			m.Forwards = append(m.Forwards, f)
		}
		l.diags = append(l.diags[:before], onlyNew(l.diags[before:], reported)...)
	}
}

// decodeForward reads one block. A range of ports makes a forward of each.
func (l *loader) decodeForward(block labelledBlock, docker Docker, s *scope) []Forward {
	a := &arguments{l: l, scope: s, attrs: block.attrs, header: block.header}
	f := Forward{
		Name:     block.label,
		Protocol: "tcp",
		HostIP:   netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		Range:    block.header,
	}
	var guest, host portRange
	a.require("guest", "the port in the guest")
	a.require("host", "the port on this computer")
	a.ports("guest", &guest)
	a.ports("host", &host)
	matched := a.matchRanges(guest, host)
	a.oneOf("protocol", protocols, nil, &f.Protocol)
	a.flag("auto_correct", &f.AutoCorrect)
	a.hostIP(&f.HostIP)
	l.checkReserved(a, f, guest, docker)
	if !matched {
		return nil
	}
	if !guest.isRange || !host.isRange {
		f.GuestPort, f.HostPort = guest.first, host.first
		return []Forward{f}
	}
	f.hostPorts = host
	forwards := make([]Forward, guest.count())
	for i := range forwards {
		f.GuestPort, f.HostPort = guest.first+uint16(i), host.first+uint16(i)
		f.Name = fmt.Sprintf("%s-%d", block.label, f.GuestPort)
		forwards[i] = f
	}
	return forwards
}

func (a *arguments) hostIP(to *netip.Addr) {
	var text string
	if !a.text("host_ip", &text) {
		return
	}
	*to = netip.Addr{} // of a wrong text nothing follows
	addr, err := netip.ParseAddr(text)
	switch {
	case strings.EqualFold(text, "localhost"):
		a.fail("host_ip", "Invalid address", `host_ip must be an IP address, not a name. Did you mean "127.0.0.1"?`)
	case err != nil:
		a.fail("host_ip", "Invalid address", `host_ip must be an IP address such as "127.0.0.1": %s is none.`, quote(text))
	case !addr.Unmap().Is4():
		a.fail("host_ip", "Invalid address", "host_ip must be an IPv4 address such as \"127.0.0.1\": guests are reached through IPv4 only, and %s is IPv6.", quote(text))
	case addr.IsMulticast():
		a.fail("host_ip", "Invalid address", "host_ip must be an address of this computer; %s is for multicast.", quote(text))
	default:
		*to = addr.Unmap()
	}
}

// checkReserved holds the names that hostctl itself uses to what they mean,
// and keeps an unprotected Docker port off the network.
func (l *loader) checkReserved(a *arguments, f Forward, guest portRange, docker Docker) {
	if guest.first == 0 {
		return // missing or wrong, and reported
	}
	toDocker := docker.Enabled && f.Protocol == "tcp" && guest.first <= docker.Port && docker.Port <= guest.last
	switch {
	case f.Name == "ssh" && (guest.isRange || guest.first != sshPort || f.Protocol != "tcp"):
		a.fail("guest", "Reserved name", `The forward "ssh" is the one that hostctl itself connects through: it must have guest = %d and the protocol tcp.`, sshPort)
	case f.Name == "docker" && docker.Enabled && (guest.isRange || !toDocker):
		a.fail("guest", "Reserved name", `The forward "docker" is the one that "hostctl env" prints: it must have guest = %d, the port in the docker block, and the protocol tcp.`, docker.Port)
	}
	if toDocker && f.HostIP.IsValid() && !f.HostIP.IsLoopback() && !docker.Insecure {
		a.fail("host_ip", "Docker port open to the network",
			"Whoever reaches the Docker port at %s would be root in the guest: it has neither encryption nor passwords. Use 127.0.0.1, or accept that with insecure = true in the docker block.", f.HostIP)
	}
}

// claims are the host ports that the machines of a project take.
type claims map[portKey]*portClaims

type portKey struct {
	protocol string
	port     uint16
}

// portClaims are the claims to one port, by address.
type portClaims struct {
	first    *claim // of any address
	wildcard *claim // of all addresses
	byAddr   map[netip.Addr]*claim
}

type claim struct {
	machine string
	forward string
	at      hcl.Range
}

// claimForwards refuses forwards that would take a host port which another
// forward takes. Those with auto_correct take the next free one.
func (l *loader) claimForwards(m *Machine) {
	reported := map[hcl.Range]bool{} // a dynamic block makes many forwards at one place
	for _, f := range m.Forwards {
		if f.AutoCorrect || f.HostPort == 0 || !f.HostIP.IsValid() {
			continue
		}
		other := l.claims.add(f, &claim{m.Name, f.Name, f.Range})
		if other == nil || reported[f.Range] {
			continue
		}
		reported[f.Range] = true
		advice := "another port"
		if other.at == f.Range && other.machine != m.Name {
			advice = perMachine(f)
		}
		l.errorf(f.Range, "Host port used twice",
			"%s port %d of %s is already taken by the forward %s of %s (line %d). Use %s, or let hostctl find a free one with auto_correct = true.",
			f.Protocol, f.HostPort, f.HostIP, quote(other.forward), quote(other.machine), other.at.Start.Line, advice)
	}
}

// perMachine is how a forward that many machines share gets ports of its own
// in each.
func perMachine(f Forward) string {
	r := f.hostPorts
	if !r.isRange {
		return fmt.Sprintf("a port for each machine, as in %d + index", f.HostPort)
	}
	return fmt.Sprintf(`a range for each machine, as in "${%d + %[3]d * index}-${%[2]d + %[3]d * index}"`, r.first, r.last, r.count())
}

// add notes a claim, or returns the one that it collides with. Listening on
// all addresses collides with every address.
func (c claims) add(f Forward, mine *claim) *claim {
	key := portKey{f.Protocol, f.HostPort}
	p := c[key]
	if p == nil {
		p = &portClaims{byAddr: map[netip.Addr]*claim{}}
		c[key] = p
	}
	switch all := f.HostIP.IsUnspecified(); {
	case p.wildcard != nil:
		return p.wildcard
	case all && p.first != nil:
		return p.first
	case p.byAddr[f.HostIP] != nil:
		return p.byAddr[f.HostIP]
	case all:
		p.wildcard = mine
	}
	if p.first == nil {
		p.first = mine
	}
	p.byAddr[f.HostIP] = mine
	return nil
}
