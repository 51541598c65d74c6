package libvirt

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/hostctl/hostctl/internal/hint"
)

// How libvirtd is reached.
const (
	viaUNIX = "unix"
	viaTCP  = "tcp"
	viaTLS  = "tls"
	viaSSH  = "ssh"
)

// target is what a libvirt URI says (https://libvirt.org/uri.html).
type target struct {
	uri     string // as the user wrote it
	via     string
	driver  string // what libvirtd itself is asked for: "qemu:///system"
	session bool   // the user's own libvirtd, which has no networks
	user    string // of SSH; "": the one of this host
	host    string
	port    string // "": the usual one
	socket  string // path of libvirtd's socket, on the host of SSH; "": the usual one
	pki     string // directory of the certificates; "": the usual ones
	keyFile string // SSH key; "": the usual ones
	known   string // known_hosts file; "": the usual ones
}

// local reports whether the libvirtd is this host's.
func (t target) local() bool { return t.via == viaUNIX }

const uriHint = "write for instance qemu:///system, qemu:///session or qemu+ssh://user@host/system"

// parseURI reads the URIs of libvirt's qemu driver.
func parseURI(uri string) (target, error) {
	fail := func(format string, args ...any) (target, error) {
		return target{}, hint.Wrap(fmt.Errorf("libvirt URI %q: %w", uri, fmt.Errorf(format, args...)), uriHint)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return fail("%w", unquoted(err))
	}
	driver, via, explicit := strings.Cut(u.Scheme, "+")
	t := target{uri: uri, via: via, host: u.Hostname(), port: u.Port(), user: u.User.Username()}
	switch {
	case driver != "qemu":
		return fail("hostctl runs guests on libvirt's qemu driver only")
	case !explicit && t.host != "":
		t.via = viaTLS // libvirt's rule
	case !explicit:
		t.via = viaUNIX
	case via == "libssh" || via == "libssh2":
		t.via = viaSSH // libvirt's own names for how, not for what
	}
	switch t.via {
	case viaUNIX:
		if t.host != "" {
			return fail("a socket has no host")
		}
	case viaTCP, viaTLS, viaSSH:
		if t.host == "" {
			return fail("no host")
		}
	default:
		return fail("no way to reach libvirtd is called %q: unix, tcp, tls, ssh", via)
	}
	switch u.Path {
	case "/system":
	case "/session":
		t.session = true
		if t.via == viaTCP || t.via == viaTLS {
			return fail("a session is reached through its socket or by SSH")
		}
	default:
		return fail("it ends in neither /system nor /session")
	}
	t.driver = "qemu://" + u.Path
	for name, values := range u.Query() {
		value := values[len(values)-1]
		switch name {
		case "socket":
			t.socket = value
		case "pkipath":
			t.pki = value
		case "keyfile":
			t.keyFile = value
		case "known_hosts":
			t.known = value
		case "no_verify", "known_hosts_verify":
			if value != "0" && value != "normal" {
				return fail("hostctl does not connect to hosts that it cannot verify (%s)", name)
			}
		case "name", "mode", "proxy", "no_tty", "sshauth", "command", "netcat":
			// They choose among ways of libvirt's own library.
		default:
			return fail("parameter %q is not known", name)
		}
	}
	return t, nil
}

// DefaultURI is the system's libvirtd, where it takes a connection of this user's, and
// else the user's own. Root has only the system's.
func DefaultURI(ctx context.Context) string {
	const system, own = "qemu:///system", "qemu:///session"
	if os.Geteuid() == 0 {
		return system
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	t := target{via: viaUNIX}
	c, err := t.dialUNIX(ctx)
	if err != nil {
		return own
	}
	c.Close()
	return system
}

// unquoted leaves out the URL that url.Error repeats.
func unquoted(err error) error {
	if u, ok := err.(*url.Error); ok { //nolint:errorlint // url.Parse returns it as it is
		return u.Err
	}
	return err
}
