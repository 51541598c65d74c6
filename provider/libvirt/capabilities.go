package libvirt

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/kvm"
	"github.com/hostctl/hostctl/provider"
)

// capabilities is what libvirt's host can do.
type capabilities struct{ libvirtxml.Caps }

// capabilities asks once: they change with libvirt's host.
func (d *driver) capabilities(ctx context.Context) (capabilities, error) {
	release, err := d.acquire(ctx, "capabilities")
	if err != nil {
		return capabilities{}, err
	}
	defer release()
	if d.caps != nil {
		return *d.caps, nil
	}
	text, err := call(ctx, d.conn, (*rpc.Libvirt).ConnectGetCapabilities)
	if err != nil {
		return capabilities{}, err
	}
	var c capabilities
	if err := c.Unmarshal(text); err != nil {
		return capabilities{}, fmt.Errorf("libvirt's capabilities: %w", err)
	}
	d.caps = &c
	return c, nil
}

// libvirtArch is libvirt's name of an architecture.
func libvirtArch(arch string) string {
	switch arch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return arch
}

// domainTypes are what guests of the architecture can run on: "kvm", "qemu".
func (c capabilities) domainTypes(arch string) []string {
	var types []string
	for _, g := range c.Guests {
		if g.OSType != "hvm" || g.Arch.Name != libvirtArch(arch) {
			continue
		}
		for _, d := range g.Arch.Domains {
			types = append(types, d.Type)
		}
	}
	return types
}

// qemuUser is the user that QEMU runs as; ok is false when it is guarded by more
// than file permissions, or when libvirt does not say.
func (c capabilities) qemuUser() (uid, gid uint32, ok bool) {
	for _, m := range c.Host.SecModel {
		switch m.Name {
		case "none":
		case "dac":
			for _, l := range m.Labels {
				// "+64055:+106"
				user, group, _ := strings.Cut(l.Value, ":")
				u, err1 := strconv.ParseUint(strings.TrimPrefix(user, "+"), 10, 32)
				g, err2 := strconv.ParseUint(strings.TrimPrefix(group, "+"), 10, 32)
				if err1 != nil || err2 != nil {
					return 0, 0, false
				}
				uid, gid, ok = uint32(u), uint32(g), true
			}
		default:
			return 0, 0, false
		}
	}
	return uid, gid, ok
}

// accelerator decides what a guest runs on: "kvm" or "tcg". libvirt lists kvm
// wherever /dev/kvm opens, which proves nothing (see kvm.Probe); of another host's
// hardware nothing is known but that. want is the machine file's accel or "".
func (c capabilities) accelerator(want, arch string, local bool, probe func() (string, error)) (accel, notice string, err error) {
	types := c.domainTypes(arch)
	refuse := func(advice, format string, args ...any) (string, string, error) {
		return "", "", &provider.FieldError{Field: "accel", Err: fmt.Errorf(format, args...), Advice: advice}
	}
	if len(types) == 0 {
		return "", "", hint.Wrap(fmt.Errorf("libvirt's host has no QEMU for %s guests", arch), "install it there: apt-get install %s", qemuPackage(arch))
	}
	hasKVM := slices.Contains(types, "kvm")
	switch want {
	case "tcg":
		return "tcg", "", nil
	case "kvm":
		if !hasKVM {
			return refuse("leave accel out to run it under emulation", "libvirt's host has no KVM for %s guests", arch)
		}
		return "kvm", "", nil
	case "":
	default:
		return refuse("leave accel out to take the best there is", "%q is not one of libvirt's host's: kvm, tcg", want)
	}
	var reason string
	switch {
	case !hasKVM && c.Host.CPU != nil && c.Host.CPU.Arch != libvirtArch(arch):
		reason = fmt.Sprintf("an %s guest on an %s host", arch, c.Host.CPU.Arch)
		return "tcg", reason + " runs under emulation, about ten times slower", nil
	case !hasKVM:
		reason = "libvirt's host does not offer it"
	case local:
		// Whether this user may open /dev/kvm does not matter to QEMU's.
		if reason, _ = probe(); reason == "" {
			return "kvm", "", nil
		}
	default:
		return "kvm", "", nil
	}
	return "tcg", fmt.Sprintf("no KVM: %s; guests run under emulation, about ten times slower", reason), nil
}

func qemuPackage(arch string) string {
	if arch == "arm64" {
		return "qemu-system-arm"
	}
	return "qemu-system-x86"
}

// Check implements [provider.Provider]: whether libvirtd answers, and what the guest
// will run on.
func (d *driver) Check(ctx context.Context, n provider.Needs) (provider.Host, error) {
	version, err := call(ctx, d.conn, (*rpc.Libvirt).ConnectGetLibVersion)
	if err != nil {
		return provider.Host{}, err
	}
	h := provider.Host{Version: versionText(version)}
	h.Accel, h.Notice, err = d.accelerator(ctx, n.Accel, n.Arch)
	if err == nil {
		err = d.checkPool(ctx)
	}
	return h, err
}

// checkPool finds a pool that was named and is missing before anything is made.
func (d *driver) checkPool(ctx context.Context) error {
	if d.cfg.Pool == "" {
		return nil
	}
	_, err := d.pool(ctx, d.cfg.Pool)
	return err
}

func (d *driver) accelerator(ctx context.Context, want, arch string) (accel, notice string, err error) {
	if arch != "amd64" && arch != "arm64" {
		return "", "", &provider.FieldError{Field: "image", Err: fmt.Errorf("architecture %q is not amd64 or arm64", arch)}
	}
	c, err := d.capabilities(ctx)
	if err != nil {
		return "", "", err
	}
	probe := func() (string, error) {
		if arch != runtime.GOARCH {
			return "", errors.ErrUnsupported
		}
		return kvm.Probe()
	}
	return c.accelerator(want, arch, d.target.local(), probe)
}

// versionText writes 9000000 as "9.0.0".
func versionText(v uint64) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1_000%1_000, v%1_000)
}
