package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

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
	if own, system := p.session(ctx); own {
		// Asking would start it.
		if _, err := dialAny(ctx, p.sessionSockets()); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			f := Finding{Level: Info, Detail: "your own libvirtd does not run: machines start it"}
			if system != nil {
				f.Detail += fmt.Sprintf(" (the system's: %v)", system)
				f.Fix = mendLibvirt(system)
			}
			return one(f)
		}
	}
	libvirt, err := p.Provider(machinefile.LibvirtProvider)
	if err != nil {
		return one(failed(err))
	}
	var found []Finding
	for _, arch := range p.arches(machinefile.LibvirtProvider) {
		host, err := libvirt.Check(ctx, provider.Needs{Arch: arch})
		switch {
		case err != nil:
			f := failed(err)
			f.Fix = cmp.Or(f.Fix, mendLibvirt(err))
			return append(found, f)
		case host.Notice != "":
			found = append(found, Finding{Level: Warning, Detail: host.Version + ": " + host.Notice})
		default:
			found = append(found, ok("%s, %s for %s guests", host.Version, host.Accel, arch))
		}
	}
	return found
}

// session reports whether the machines are on the user's own libvirtd. Where
// nobody says so, that is when the system's refuses the user, with err.
func (p *Patient) session(ctx context.Context) (own bool, err error) {
	if uri := p.libvirtURI(); uri != "" || os.Geteuid() == 0 {
		return uri == "qemu:///session", nil
	}
	_, err = dialAny(ctx, sockets)
	return err != nil, err
}

// libvirtURI is where machines of libvirt are, or will be made: where those that
// exist were made, what the machine file says, what the shell says; "" is the
// provider's own choice.
func (p *Patient) libvirtURI() string {
	uri := ""
	if p.Config != nil {
		uri = p.Config.Libvirt.URI
	}
	if state, err := p.Project.Load(); err == nil {
		uri = cmp.Or(state.LibvirtURI, uri)
	}
	return cmp.Or(uri, p.Getenv("LIBVIRT_DEFAULT_URI"))
}

func (p *Patient) sessionSockets() []string {
	dir := p.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = cmp.Or(p.Getenv("XDG_CACHE_HOME"), filepath.Join(p.Getenv("HOME"), ".cache")) // libvirt's own rule
	}
	return []string{filepath.Join(dir, "libvirt", "libvirt-sock"), filepath.Join(dir, "libvirt", "virtqemud-sock")}
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
