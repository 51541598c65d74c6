// Package usernet speaks of forwards as QEMU's user network does, for the providers
// that have one: how it is told of them, what it lists, and why it refuses one.
package usernet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// Validate gives a *[provider.FieldError] for a forward that QEMU cannot make.
func Validate(f network.Forward) error {
	reject := func(field, advice, format string, args ...any) error {
		return &provider.FieldError{Field: field, Forward: f.Name, Err: fmt.Errorf(format, args...), Advice: advice}
	}
	switch {
	case f.Protocol != "tcp" && f.Protocol != "udp":
		return reject("protocol", "", "%q is not tcp or udp", f.Protocol)
	case !f.HostIP.Is4():
		return reject("host_ip", "use an IPv4 address such as 127.0.0.1",
			"QEMU's user network forwards from IPv4 addresses only, not from %s", f.HostIP)
	case f.HostPort == 0:
		return reject("host", "", "port 0 is not a port")
	case f.GuestPort == 0:
		return reject("guest", "", "port 0 is not a port")
	}
	return nil
}

// Rule is a forward as QEMU writes it, in errors too: "tcp:127.0.0.1:2375-:2375".
func Rule(f network.Forward) string {
	return fmt.Sprintf("%s:%s-:%d", f.Protocol, f.HostAddr(), f.GuestPort)
}

// rowPattern is a forward in what "info usernet" prints: protocol, file
// descriptor, the host's address ("*" is all of them) and port, the guest's.
// Other rows are connections.
var rowPattern = regexp.MustCompile(`^\s*(TCP|UDP)\[HOST_FORWARD\]\s+-?\d+\s+(\S+)\s+(\d+)\s+\S+\s+(\d+)\s`)

// Parse reads the table of the user network that "info usernet" prints (QEMU 7.2,
// libslirp 4.7's slirp_connection_info). QEMU keeps no names.
func Parse(out string) []network.Forward {
	var forwards []network.Forward
	for line := range strings.Lines(out) {
		m := rowPattern.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		ip, err := netip.ParseAddr(m[2])
		if m[2] == "*" {
			ip, err = netip.IPv4Unspecified(), nil
		}
		host, herr := strconv.ParseUint(m[3], 10, 16)
		guest, gerr := strconv.ParseUint(m[4], 10, 16)
		f := network.Forward{
			Protocol: strings.ToLower(m[1]), HostIP: ip, HostPort: uint16(host), GuestPort: uint16(guest),
		}
		if errors.Join(err, herr, gerr, Validate(f)) == nil {
			forwards = append(forwards, f)
		}
	}
	return forwards
}

// Explain finds out what kept QEMU from binding a forward's host port, which it
// does not say itself. said is what it does say.
func Explain(ctx context.Context, f network.Forward, said string) error {
	err := network.Probe(ctx, f)
	if err == nil {
		// Whoever held it has just let it go.
		return &provider.PortError{Forward: f, Err: errors.New(said)}
	}
	if in, ok := errors.AsType[*network.InUseError](err); ok {
		return &provider.PortError{Forward: f, Err: in}
	}
	field, advice := "host_ip", "choose an address of this host, such as 127.0.0.1"
	if errors.Is(err, fs.ErrPermission) {
		field, advice = "host", "ports below 1024 need privileges: choose a higher one"
	}
	return &provider.FieldError{Field: field, Forward: f.Name, Err: err, Advice: advice}
}

// Host is how guests reach this host's loopback on QEMU's user network: its
// second address stands for the host.
var Host = provider.HostAddress{
	Guest:  netip.AddrFrom4([4]byte{10, 0, 2, 2}),
	Listen: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
}
