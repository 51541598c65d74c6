package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/network/lan"
	"github.com/hostctl/hostctl/provider"
)

// plug is what a network card beside that of the user network is plugged into.
// One of its kinds is set.
type plug struct {
	// fd is an open tap or macvtap device that QEMU inherits. A tap goes with
	// the last process that has it open, however that ends.
	fd int
	// bridge is the host's, and helper the setuid program that QEMU has plug
	// a tap into it.
	bridge, helper string
	// socket is a private LAN's: QEMU listens on it, and the agent joins it.
	socket string
}

// nicID is what the card is called in QEMU.
func nicID(i int) string { return fmt.Sprintf("nic%d", i) }

// nicArgs is a card and what it is plugged into.
func nicArgs(i int, nic provider.NIC, p plug) []string {
	id, device := nicID(i), card(nicID(i), nic.MAC)
	var netdev string
	switch {
	case p.socket != "":
		// QEMU listens, so that an agent that died can be replaced.
		netdev = "stream,id=" + id + ",server=on,addr.type=unix,addr.path=" + escape(p.socket)
		device += fmt.Sprintf(",host_mtu=%d", lan.MTU)
	case p.helper != "":
		netdev = "bridge,id=" + id + ",br=" + escape(p.bridge) + ",helper=" + escape(p.helper)
	default:
		netdev = fmt.Sprintf("tap,id=%s,fd=%d", id, p.fd)
	}
	return []string{"-netdev", netdev, "-device", device}
}

// maxNICs leaves slots on the machine's bus for everything else; sockets are
// told apart by one digit.
const maxNICs = 10

func validateNICs(nics []provider.NIC) error {
	seen := map[string]bool{}
	for i, nic := range nics {
		reject := func(field, format string, args ...any) error {
			return &provider.FieldError{Field: field, Network: nic.Network, Err: fmt.Errorf(format, args...)}
		}
		mac, err := net.ParseMAC(nic.MAC)
		switch {
		case i >= maxNICs:
			return reject("address", "a machine can be on %d networks", maxNICs)
		case nic.Network == "" || seen[nic.Network]:
			return fmt.Errorf("network %q: named twice or not at all", nic.Network)
		case err != nil || len(mac) != 6:
			return fmt.Errorf("network %q: %q is no Ethernet address", nic.Network, nic.MAC)
		case (nic.HostOnly == nil) == (nic.Interface == ""):
			return fmt.Errorf("network %q: neither host-only nor bridged, or both", nic.Network)
		case nic.HostOnly == nil:
		case validHostOnly(*nic.HostOnly) != nil:
			return validHostOnly(*nic.HostOnly)
		case nic.Address.IsValid() && (!nic.HostOnly.CIDR.Contains(nic.Address) || nic.Address == hostAddress(*nic.HostOnly)):
			return reject("address", "%s is not a guest's on %s", nic.Address, nic.HostOnly.CIDR)
		}
		seen[nic.Network] = true
	}
	return nil
}

func validHostOnly(n provider.HostOnly) error {
	if err := checkName(n.Name); err != nil {
		return err
	}
	if c := n.CIDR; !c.IsValid() || !c.Addr().Is4() || c != c.Masked() || c.Bits() > 30 {
		return &provider.FieldError{Field: "cidr", Network: n.Name, Err: fmt.Errorf("%s is not an IPv4 network", c)}
	}
	return nil
}

// hostAddress is the host's address on the network: its first.
func hostAddress(n provider.HostOnly) netip.Addr { return n.CIDR.Addr().Next() }

// plugAll makes what the domain's cards are plugged into. QEMU inherits files
// in their order, from descriptor 3 on; the caller closes them.
func (p *Provider) plugAll(ctx context.Context, d provider.Domain) (plugs []plug, files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			plugs, files = nil, nil
		}
	}()
	inherit := func(f *os.File, err error) (plug, error) {
		if err != nil {
			return plug{}, err
		}
		files = append(files, f)
		return plug{fd: 2 + len(files)}, nil
	}
	for i, nic := range d.NICs {
		var pl plug
		if nic.HostOnly != nil {
			var reason string
			if reason, err = p.lanReason(ctx, nic.HostOnly.Name); err != nil {
				return plugs, files, err
			}
			if reason != "" {
				pl.socket, err = p.socket(nicSocketName(d.ID, i))
			} else {
				pl, err = inherit(p.plugHostOnly(ctx, d, *nic.HostOnly))
			}
		} else {
			pl, err = p.plugBridged(ctx, d, nic, inherit)
		}
		if err != nil {
			return plugs, files, err
		}
		plugs = append(plugs, pl)
	}
	return plugs, files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// nicSocketName is where the domain's card listens for the agent.
func nicSocketName(id string, i int) string { return fmt.Sprintf("%s.n%d", socketPrefix(id), i) }

// plugHostOnly opens a tap on the network's bridge, which it makes if it must.
func (p *Provider) plugHostOnly(ctx context.Context, d provider.Domain, n provider.HostOnly) (*os.File, error) {
	p.bridges.Lock()
	defer p.bridges.Unlock()
	b, err := p.bridge(n)
	if err != nil {
		return nil, err
	}
	if err := ensureBridge(b); err != nil {
		return nil, err
	}
	f, err := openTap(ctx, tapName(d.ID, n.Name), b.name)
	if err != nil {
		return nil, fmt.Errorf("network %q: %w", n.Name, err)
	}
	return f, nil
}

// plugBridged plugs a card into an interface of the host's.
func (p *Provider) plugBridged(ctx context.Context, d provider.Domain, nic provider.NIC, inherit func(*os.File, error) (plug, error)) (plug, error) {
	iface, err := p.bridgedInterface(ctx, nic)
	if err != nil {
		return plug{}, err
	}
	switch {
	case !p.cfg.Privileged():
		return plug{bridge: iface.Name, helper: p.findHelper()}, nil
	case iface.Bridge:
		return inherit(openTap(ctx, tapName(d.ID, nic.Network), iface.Name))
	default:
		return inherit(openMacvtap(macvtapName(d.ID, nic.Network), iface.Name, nic.MAC))
	}
}

// bridgedInterface finds the host's interface of a bridged network and makes
// sure that a guest can be put on it.
func (p *Provider) bridgedInterface(ctx context.Context, nic provider.NIC) (network.Interface, error) {
	reject := func(err error, advice string) (network.Interface, error) {
		return network.Interface{}, &provider.FieldError{Field: "interface", Network: nic.Network, Err: err, Advice: advice}
	}
	if !bridges {
		return reject(errors.New("QEMU's guests are bridged on Linux only"), "leave the network out, or use libvirt on a Linux host")
	}
	have, err := p.BridgeInterfaces(ctx)
	if err != nil {
		return network.Interface{}, err
	}
	i := slices.IndexFunc(have, func(h network.Interface) bool { return h.Name == nic.Interface })
	if i < 0 {
		gone := &network.NoInterfaceError{Wanted: []string{nic.Interface}, Have: have}
		return reject(gone, gone.Hint())
	}
	iface := have[i]
	if p.cfg.Privileged() {
		return iface, nil
	}
	if !iface.Bridge {
		return reject(fmt.Errorf("%s is not a bridge, and only root can put guests on another interface", iface.Name),
			fmt.Sprintf("make a bridge that %s is a port of, name it here and allow it in %s; or use libvirt", iface.Name, bridgeConf))
	}
	if err := p.mayUse(iface.Name); err != nil {
		return reject(err, helperAdvice(err, iface.Name))
	}
	return iface, nil
}

// BridgeInterfaces implements [provider.Bridger]. It lists also what needs
// root, for Create says then what to do.
func (p *Provider) BridgeInterfaces(ctx context.Context) ([]network.Interface, error) {
	have, err := network.HostInterfaces(ctx)
	return slices.DeleteFunc(have, func(i network.Interface) bool { return ownInterface(i.Name) }), err
}

// unplug removes what outlives a QEMU: devices that are nobody's file, and the
// sockets.
func (p *Provider) unplug(ctx context.Context, d provider.Domain) error {
	var errs []error
	for _, nic := range d.NICs {
		if nic.Interface != "" && bridges && p.cfg.Privileged() {
			errs = append(errs, removeMacvtap(macvtapName(d.ID, nic.Network)))
		}
	}
	return errors.Join(append(errs, p.removeSockets(ctx, d.ID))...)
}

// SwitchPorts implements [provider.Switched]: the process's own command line
// says which cards wait on sockets, however this process would plug them.
func (p *Provider) SwitchPorts(ctx context.Context, name string) ([]provider.SwitchPort, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	dir := p.dir(name)
	d, err := dir.load()
	if err != nil {
		return nil, err
	}
	v, running, err := find(ctx, dir, d.ID)
	if err != nil {
		return nil, err
	}
	if !running {
		return nil, fmt.Errorf("domain %q is %w", name, provider.ErrNotRunning)
	}
	var ports []provider.SwitchPort
	for i, nic := range d.NICs {
		socket := v.nicSocket(i)
		if nic.HostOnly != nil && socket != "" {
			ports = append(ports, provider.SwitchPort{HostOnly: *nic.HostOnly, MAC: nic.MAC, Address: nic.Address, Socket: socket})
		}
	}
	return ports, nil
}

// nicSocket is where the card waits to be joined, "" when it does not.
func (v vm) nicSocket(i int) string {
	for _, option := range v.options("-netdev") {
		if strings.HasPrefix(option, "stream,id="+nicID(i)+",") {
			return suboption(option, "addr.path")
		}
	}
	return ""
}

// helperPlaces is where distributions keep qemu-bridge-helper.
var helperPlaces = []string{
	"/usr/lib/qemu/qemu-bridge-helper",     // Debian, Ubuntu, Arch
	"/usr/libexec/qemu-bridge-helper",      // Fedora, Red Hat
	"/usr/libexec/qemu/qemu-bridge-helper", // Alpine
	"/usr/lib64/qemu/qemu-bridge-helper",
}

func (p *Provider) findHelper() string {
	for _, path := range helperPlaces {
		if isFile(path) {
			return filepath.Clean(path)
		}
	}
	return ""
}
