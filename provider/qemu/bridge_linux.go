package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/wait"
)

// bridges says that hostctl can make bridges on this system.
const bridges = true

// mayBridge reports whether this process may make interfaces: root, or whoever
// has CAP_NET_ADMIN, with taps to make (containers often have none).
func mayBridge() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0 && unix.Access(tunDevice, unix.R_OK|unix.W_OK) == nil
}

const tunDevice = "/dev/net/tun"

// ensureBridge makes the bridge, or repairs it.
func ensureBridge(b hostBridge) error {
	if err := repairBridge(b); err != nil {
		return fmt.Errorf("bridge %s: %w", b.name, err)
	}
	return nil
}

func repairBridge(b hostBridge) error {
	l, err := netlink.LinkByName(b.name)
	if isGone(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = b.name, b.mac
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		l, err = netlink.LinkByName(b.name)
	}
	if err != nil {
		return err
	}
	// One without an alias was left by a hostctl that was killed before it had
	// given it one.
	if l.Type() != "bridge" || l.Attrs().Alias != "" && l.Attrs().Alias != b.alias {
		return hint.Wrap(errors.New("there is another interface of that name"), "run 'sudo ip link delete %s' if nobody needs it", b.name)
	}
	if l.Attrs().Alias == "" {
		if err := netlink.LinkSetAlias(l, b.alias); err != nil {
			return err
		}
	}
	// Guests could else make themselves the host's IPv6 router.
	off := filepath.Join("/proc/sys/net/ipv6/conf", b.name, "disable_ipv6")
	if err := os.WriteFile(off, []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	have, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	there := false
	for _, a := range have {
		if a.IPNet.String() == b.addr.String() {
			there = true
		} else if err := netlink.AddrDel(l, &a); err != nil {
			return err
		}
	}
	if !there {
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{
			IP: b.addr.Addr().AsSlice(), Mask: net.CIDRMask(b.addr.Bits(), 32),
		}}); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

// removeBridge removes the bridge if it is the one of that alias.
func removeBridge(name, alias string) error {
	l, err := netlink.LinkByName(name)
	if isGone(err) || err == nil && (l.Type() != "bridge" || l.Attrs().Alias != alias) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

// hostBridges lists the host's bridges by their aliases, and says which are up.
func hostBridges() (map[string]bool, error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // some changed meanwhile
		return nil, err
	}
	out := make(map[string]bool)
	for _, l := range links {
		if l.Type() == "bridge" && l.Attrs().Alias != "" {
			out[l.Attrs().Alias] = l.Attrs().Flags&net.FlagUp != 0
		}
	}
	return out, nil
}

func isGone(err error) bool {
	_, gone := errors.AsType[netlink.LinkNotFoundError](err)
	return gone
}

// openTap makes a tap that lives as long as it is open, and plugs it into the
// bridge.
func openTap(ctx context.Context, name, bridge string) (*os.File, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tunDevice, err)
	}
	// Not os.OpenFile: Go's poller must not have it before it is a tap.
	f := os.NewFile(uintptr(fd), tunDevice)
	ctx, cancel := context.WithTimeout(ctx, killedBusy)
	defer cancel()
	err = wait.Until(ctx, pollEvery, func(context.Context) error {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			err = wait.Permanent(err)
		}
		return err
	})
	if err == nil {
		err = replug(name, bridge)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("tap %s: %w", name, err)
	}
	return f, nil
}

// replug makes a tap a port of the bridge.
func replug(tap, bridge string) error {
	b, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	t, err := netlink.LinkByName(tap)
	if isGone(err) {
		return nil // its guest has just ended
	}
	if err != nil {
		return err
	}
	if t.Attrs().MasterIndex != b.Attrs().Index {
		if err := netlink.LinkSetMaster(t, b); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(t)
}

// openMacvtap puts a card with the guest's address beside the interface and
// opens it. Unlike a tap it stays until it is removed.
func openMacvtap(name, parent, mac string) (*os.File, error) {
	f, err := makeMacvtap(name, parent, mac)
	if err != nil {
		return nil, fmt.Errorf("macvtap %s on %s: %w", name, parent, errors.Join(err, removeMacvtap(name)))
	}
	return f, nil
}

func makeMacvtap(name, parent, mac string) (*os.File, error) {
	if err := removeMacvtap(name); err != nil { // of a QEMU that died
		return nil, err
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return nil, err
	}
	on, err := netlink.LinkByName(parent)
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.ParentIndex = name, hw, on.Attrs().Index
	if err := netlink.LinkAdd(&netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}}); err != nil {
		return nil, err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return nil, err
	}
	// By number: the name in /dev is not there in containers, and may be that of
	// an interface in another network namespace.
	return openDevice(filepath.Join("/sys/class/net", name, fmt.Sprintf("tap%d", l.Attrs().Index), "dev"))
}

// openDevice opens the character device with the number that a file of sysfs
// holds.
func openDevice(numbers string) (*os.File, error) {
	data, err := os.ReadFile(numbers)
	if err != nil {
		return nil, err
	}
	maj, min, _ := strings.Cut(strings.TrimSpace(string(data)), ":")
	major, err := strconv.ParseUint(maj, 10, 32)
	minor, merr := strconv.ParseUint(min, 10, 32)
	if err := errors.Join(err, merr); err != nil {
		return nil, err
	}
	// Elsewhere devices may not be opened: /tmp and /run are often mounted nodev.
	dir, err := os.MkdirTemp("/dev", "hostctl-")
	if err != nil {
		return nil, err
	}
	node := filepath.Join(dir, "tap")
	var f *os.File
	err = unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(major), uint32(minor))))
	if err == nil {
		f, err = os.OpenFile(node, os.O_RDWR, 0)
	}
	return f, errors.Join(err, os.RemoveAll(dir))
}

func removeMacvtap(name string) error {
	l, err := netlink.LinkByName(name)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

// hasFileCapabilities reports whether the program gets rights when it is
// executed, as some distributions prefer to setuid.
func hasFileCapabilities(path string) bool {
	n, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && n > 0
}
