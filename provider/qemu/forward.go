package qemu

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// guestNAT is the address that QEMU's user network gives a guest by DHCP
// (-netdev user,dhcpstart=; QEMU 7.2's manual). Each guest has a network of its
// own.
var guestNAT = netip.AddrFrom4([4]byte{10, 0, 2, 15})

// NATAddress implements [provider.NATAddresser].
func (p *Provider) NATAddress(context.Context, string, string) (netip.Addr, error) {
	return guestNAT, nil
}

// LiveForwards implements [provider.Forwarder]. QEMU keeps no names.
func (p *Provider) LiveForwards(ctx context.Context, name string) ([]network.Forward, error) {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	m, _, err := p.monitor(ctx, name)
	if err != nil {
		return nil, err
	}
	defer m.conn.Close()
	return m.forwards(ctx)
}

// AddForward implements [provider.Forwarder]. It does not wait for its turn
// with Start and Stop: the monitor serves one client at a time.
func (p *Provider) AddForward(ctx context.Context, name string, f network.Forward) error {
	if err := validateForward(f); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	m, d, err := p.monitor(ctx, name)
	if err != nil {
		return err
	}
	defer m.conn.Close()
	if d.NoNAT {
		return noNAT(f)
	}
	if there, err := m.hasForward(ctx, f); there || err != nil {
		return err
	}
	out, err := m.human(ctx, "hostfwd_add "+natID+" "+rule(f))
	if err != nil || out == "" {
		return err
	}
	if rulePattern.MatchString(out) {
		return forwardError(ctx, []network.Forward{f}, failure{text: out, rule: rule(f)})
	}
	return fmt.Errorf("forward %q: %s", f.Name, out)
}

// RemoveForward implements [provider.Forwarder].
func (p *Provider) RemoveForward(ctx context.Context, name string, f network.Forward) error {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	m, _, err := p.monitor(ctx, name)
	if err != nil {
		return err
	}
	defer m.conn.Close()
	// QEMU looks at the host's side only, and another forward may have it now.
	if there, err := m.hasForward(ctx, f); !there || err != nil {
		return err
	}
	out, err := m.human(ctx, fmt.Sprintf("hostfwd_remove %s %s:%s", natID, f.Protocol, f.HostAddr()))
	if err == nil && !strings.HasSuffix(out, " removed") {
		err = fmt.Errorf("forward %q: %s", f.Name, out)
	}
	return err
}

// monitor connects to a running domain's monitor; the caller closes it.
func (p *Provider) monitor(ctx context.Context, name string) (*qmp, provider.Domain, error) {
	if err := checkName(name); err != nil {
		return nil, provider.Domain{}, err
	}
	dir := p.dir(name)
	d, err := dir.load()
	if err != nil {
		return nil, d, err
	}
	v, running, err := find(ctx, dir, d.ID)
	if err != nil {
		return nil, d, err
	}
	if !running {
		return nil, d, fmt.Errorf("domain %q is %w", name, provider.ErrNotRunning)
	}
	m, err := dialQMP(ctx, v.socket(), d.ID)
	if err == nil {
		return m, d, nil
	}
	if gone, gerr := v.gone(ctx, d.ID); gone && gerr == nil {
		err = fmt.Errorf("domain %q is %w", name, provider.ErrNotRunning)
	}
	return nil, d, err
}

func (m *qmp) forwards(ctx context.Context) ([]network.Forward, error) {
	out, err := m.human(ctx, "info usernet")
	if err != nil {
		return nil, err
	}
	return parseUsernet(out), nil
}

func (m *qmp) hasForward(ctx context.Context, f network.Forward) (bool, error) {
	live, err := m.forwards(ctx)
	for _, l := range live {
		if l.Name = f.Name; l == f {
			return true, err
		}
	}
	return false, err
}

// usernetPattern is a forward in what "info usernet" prints: protocol, file
// descriptor, the host's address ("*" is all of them) and port, the guest's.
// Other rows are connections.
var usernetPattern = regexp.MustCompile(`^\s*(TCP|UDP)\[HOST_FORWARD\]\s+-?\d+\s+(\S+)\s+(\d+)\s+\S+\s+(\d+)\s`)

// parseUsernet reads the table of the user network (QEMU 7.2, libslirp 4.7's
// slirp_connection_info).
func parseUsernet(out string) []network.Forward {
	var fs []network.Forward
	for line := range strings.Lines(out) {
		m := usernetPattern.FindStringSubmatch(line)
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
		if errors.Join(err, herr, gerr, validateForward(f)) == nil {
			fs = append(fs, f)
		}
	}
	return fs
}
