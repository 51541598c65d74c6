package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/renameio/v2/maybe"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// A host-only network is a bridge where this process may make one, and else a
// private LAN: sockets that the agent joins, of which nothing exists but a
// record beside them that says so.

// hostBridge is a bridge as it has to be.
type hostBridge struct {
	name  string
	alias string // marks it as this project's
	mac   net.HardwareAddr
	addr  netip.Prefix // the host's
}

// aliasPrefix begins the alias of the project's bridges; the network's name
// follows.
func (p *Provider) aliasPrefix() string { return "hostctl " + p.projectID() + " " }

func (p *Provider) projectID() string {
	if p.cfg.ProjectID == nil {
		return ""
	}
	return p.cfg.ProjectID()
}

func (p *Provider) bridge(n provider.HostOnly) (hostBridge, error) {
	id := p.projectID()
	if id == "" {
		return hostBridge{}, errors.New("host-only networks belong to a project, and this one has no id")
	}
	return hostBridge{
		name:  deviceName("hc", id, n.Name),
		alias: p.aliasPrefix() + n.Name,
		// Without one of its own it takes that of a guest's tap, and changes
		// it when that guest ends.
		mac:  network.MAC(id, n.Name),
		addr: netip.PrefixFrom(hostAddress(n), n.CIDR.Bits()),
	}, nil
}

// deviceName names an interface of the host's: at most 15 bytes (IFNAMSIZ).
func deviceName(kind, owner, network string) string {
	sum := sha256.Sum256([]byte(owner + " " + network))
	return fmt.Sprintf("%s-%x", kind, sum[:4])
}

func tapName(domain, network string) string     { return deviceName("ht", domain, network) }
func macvtapName(domain, network string) string { return deviceName("hv", domain, network) }

var ownPattern = regexp.MustCompile(`^h[ctv]-[0-9a-f]{8}$`)

func ownInterface(name string) bool { return ownPattern.MatchString(name) }

// member is a running domain on a host-only network.
type member struct {
	domain  string
	id      string
	network provider.HostOnly
	lan     bool // its card waits on a socket
}

// members lists the running domains on the network. Domains that cannot be
// read are left out: their own commands say so.
func (p *Provider) members(ctx context.Context, network string) ([]member, error) {
	entries, err := os.ReadDir(p.cfg.Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []member
	for _, e := range entries {
		dir := p.dir(e.Name())
		d, err := dir.load()
		if err != nil {
			continue
		}
		i := slices.IndexFunc(d.NICs, func(n provider.NIC) bool { return n.HostOnly != nil && n.HostOnly.Name == network })
		if i < 0 {
			continue
		}
		v, running, err := findByPIDFile(ctx, dir, d.ID)
		if err != nil {
			return nil, err
		}
		if running {
			out = append(out, member{domain: d.Name, id: d.ID, network: *d.NICs[i].HostOnly, lan: v.nicSocket(i) != ""})
		}
	}
	return out, nil
}

// lanReason says why the network is a private LAN; "" means that it is a
// bridge. Domains that run on a LAN would not see those on a bridge.
func (p *Provider) lanReason(ctx context.Context, network string) (string, error) {
	if !bridges {
		return "since hostctl makes bridges on Linux only", nil
	}
	if !p.cfg.Privileged() {
		return "since bridges need root", nil
	}
	on, err := p.members(ctx, network)
	if i := slices.IndexFunc(on, func(m member) bool { return m.lan }); i >= 0 {
		return fmt.Sprintf("since %s runs on one", on[i].domain), err
	}
	return "", err
}

// EnsureNetwork implements [provider.HostOnlyNetworker].
func (p *Provider) EnsureNetwork(ctx context.Context, n provider.HostOnly) (provider.NetworkStatus, error) {
	if err := ctx.Err(); err != nil {
		return provider.NetworkStatus{}, context.Cause(ctx)
	}
	if err := validHostOnly(n); err != nil {
		return provider.NetworkStatus{}, err
	}
	p.bridges.Lock()
	defer p.bridges.Unlock()
	on, err := p.members(ctx, n.Name)
	if err != nil {
		return provider.NetworkStatus{}, err
	}
	for _, m := range on {
		if m.network.CIDR != n.CIDR {
			return provider.NetworkStatus{}, fmt.Errorf("network %q: %s %w on it with the subnet %s",
				n.Name, m.domain, provider.ErrRunning, m.network.CIDR)
		}
	}
	reason, err := p.lanReason(ctx, n.Name)
	if err != nil {
		return provider.NetworkStatus{}, err
	}
	if reason != "" {
		return provider.NetworkStatus{Notice: fmt.Sprintf(
			"host-only network %s: a private LAN between the machines, %s; the host reaches them by forwards", n.Name, reason,
		)}, p.recordLAN(n)
	}
	b, err := p.bridge(n)
	if err != nil {
		return provider.NetworkStatus{}, err
	}
	if err := ensureBridge(b); err != nil {
		return provider.NetworkStatus{}, err
	}
	for _, m := range on { // it may have been deleted under them
		if err := replug(tapName(m.id, n.Name), b.name); err != nil {
			return provider.NetworkStatus{}, fmt.Errorf("network %q: %w", n.Name, err)
		}
	}
	return provider.NetworkStatus{HostReach: true}, nil
}

// DeleteNetwork implements [provider.HostOnlyNetworker].
func (p *Provider) DeleteNetwork(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := checkName(name); err != nil {
		return err
	}
	p.bridges.Lock()
	defer p.bridges.Unlock()
	on, err := p.members(ctx, name)
	if err != nil {
		return err
	}
	if len(on) > 0 {
		return fmt.Errorf("network %q: %s %w on it", name, on[0].domain, provider.ErrRunning)
	}
	if p.projectID() != "" {
		if err := removeBridge(deviceName("hc", p.projectID(), name), p.aliasPrefix()+name); err != nil {
			return fmt.Errorf("network %q: %w", name, err)
		}
	}
	path, err := p.lanRecord(name)
	if err != nil { // no directory for it, as before the first up: no record
		return nil
	}
	return removeIfThere(path)
}

// Networks implements [provider.HostOnlyNetworker].
func (p *Provider) Networks(ctx context.Context) (map[string]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	works := make(map[string]bool)
	if p.projectID() != "" {
		all, err := hostBridges()
		if err != nil {
			return nil, err
		}
		for alias, up := range all {
			if name, ok := strings.CutPrefix(alias, p.aliasPrefix()); ok {
				works[name] = up
			}
		}
	}
	dir, err := p.cfg.RunDir()
	if err != nil { // before the first up there is none, and so no LAN
		p.cfg.Logger.InfoContext(ctx, "no socket directory to look into", "error", err)
		return works, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), lanSuffix); ok {
			works[name] = true
		}
	}
	return works, nil
}

// lanSuffix ends the name of a private LAN's record, beside the sockets.
const lanSuffix = ".lan"

func (p *Provider) lanRecord(network string) (string, error) {
	dir, err := p.cfg.RunDir()
	return filepath.Join(dir, network+lanSuffix), err
}

func (p *Provider) recordLAN(n provider.HostOnly) error {
	path, err := p.lanRecord(n.Name)
	if err != nil {
		return err
	}
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return maybe.WriteFile(path, append(data, '\n'), 0o600)
}
