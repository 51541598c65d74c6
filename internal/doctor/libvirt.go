package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"runtime"
	"syscall"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
)

// sockets are where the system's libvirtd listens; newer systems have a daemon
// for QEMU alone.
var sockets = []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock", "/var/run/libvirt/libvirt-sock"}

// libvirt asks libvirtd as the project's machines would. Where none is
// libvirt's, it only says whether the system's is there.
func (p *Patient) libvirt(ctx context.Context) []Finding {
	if !p.uses(machinefile.LibvirtProvider) {
		if runtime.GOOS != "linux" {
			return nil
		}
		path, err := dialAny(ctx, sockets)
		switch {
		case err == nil:
			return one(ok("%s answers", path))
		case errors.Is(err, fs.ErrNotExist):
			return one(Finding{Level: Info, Detail: `not here; only machines with provider = "libvirt" need it`})
		}
		return one(Finding{Level: Info, Detail: err.Error() + `; only machines with provider = "libvirt" need it`, Fix: mendLibvirt(err)})
	}
	libvirt, err := p.Provider(machinefile.LibvirtProvider)
	if err != nil {
		return one(Finding{Level: Problem, Detail: err.Error()})
	}
	var found []Finding
	for _, arch := range p.arches(machinefile.LibvirtProvider) {
		host, err := libvirt.Check(ctx, provider.Needs{Arch: arch})
		switch {
		case err != nil:
			fix := hint.Of(err)
			if fix == "" {
				fix = mendLibvirt(err)
			}
			return append(found, Finding{Level: Problem, Detail: err.Error(), Fix: fix})
		case host.Notice != "":
			found = append(found, Finding{Level: Warning, Detail: host.Version + ": " + host.Notice})
		default:
			found = append(found, ok("%s, %s for %s guests", host.Version, host.Accel, arch))
		}
	}
	return found
}

// dialAny connects to the first socket that exists, and lets go.
func dialAny(ctx context.Context, paths []string) (path string, err error) {
	var d net.Dialer
	for _, path := range paths {
		conn, e := d.DialContext(ctx, "unix", path)
		if e == nil {
			return path, conn.Close()
		}
		if err = e; !errors.Is(e, fs.ErrNotExist) {
			break
		}
	}
	return "", err
}

// mendLibvirt says how to reach the system's libvirtd.
func mendLibvirt(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "sudo usermod -aG libvirt $USER, then log in again"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "sudo systemctl start libvirtd"
	case errors.Is(err, fs.ErrNotExist):
		return "install libvirt: apt-get install libvirt-daemon-system, or dnf install libvirt-daemon-kvm"
	}
	return ""
}
