package libvirt

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/internal/hint"
)

// Ports of libvirtd (remote/remote_driver.h).
const (
	tcpPort = "16509"
	tlsPort = "16514"
)

// line is an open way to libvirtd.
type line struct {
	net.Conn
	ssh *ssh.Client // what it goes through, or nil
}

func (l line) Close() error {
	err := l.Conn.Close()
	if l.ssh != nil {
		err = errors.Join(err, l.ssh.Close())
	}
	return err
}

// dial opens the way to the target's libvirtd.
func (t target) dial(ctx context.Context) (line, error) {
	switch t.via {
	case viaUNIX:
		c, err := t.dialUNIX(ctx)
		return line{Conn: c}, err
	case viaTCP:
		c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(t.host, cmp.Or(t.port, tcpPort)))
		return line{Conn: c}, err
	case viaTLS:
		c, err := t.dialTLS(ctx)
		return line{Conn: c}, err
	default:
		return t.dialSSH(ctx)
	}
}

// sockets are where libvirtd listens, and where the daemon of its qemu driver
// does on systems that have divided libvirtd up.
func (t target) sockets() ([]string, error) {
	if t.socket != "" {
		return []string{t.socket}, nil
	}
	dir := "/run/libvirt"
	if t.session {
		runtime := os.Getenv("XDG_RUNTIME_DIR")
		if runtime == "" {
			cache, err := os.UserCacheDir()
			if err != nil {
				return nil, err
			}
			runtime = cache // libvirt's own rule, virGetUserRuntimeDirectory
		}
		dir = filepath.Join(runtime, "libvirt")
	}
	return []string{filepath.Join(dir, "libvirt-sock"), filepath.Join(dir, "virtqemud-sock")}, nil
}

func (t target) dialUNIX(ctx context.Context) (net.Conn, error) {
	paths, err := t.sockets()
	if err != nil {
		return nil, err
	}
	c, err := dialFirst(ctx, paths)
	if t.session && t.socket == "" && absent(err) {
		// libvirt's own clients start the session's daemon, too.
		if startErr := startSession(ctx, paths); startErr != nil {
			return nil, startErr
		}
		c, err = dialFirst(ctx, paths)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Wrap(err, "run 'sudo usermod -aG libvirt $USER' and log in again, or use qemu:///session")
	case absent(err):
		return nil, hint.Wrap(fmt.Errorf("libvirtd does not run here: %w", err),
			"start it: sudo systemctl enable --now libvirtd; or install it: apt-get install libvirt-daemon-system libvirt-daemon-driver-qemu")
	}
	return c, err
}

// absent says that nobody listens.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// dialFirst connects to the first of the sockets that is there. Of those that are not
// it tells about the first.
func dialFirst(ctx context.Context, paths []string) (net.Conn, error) {
	var first error
	for _, path := range paths {
		c, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return c, nil
		}
		if first == nil || absent(first) && !absent(err) {
			first = err
		}
	}
	return nil, first
}

// dialTLS presents the client's certificate and verifies the server's. libvirtd
// then sends one byte that says whether it takes the client.
func (t target) dialTLS(ctx context.Context) (net.Conn, error) {
	config, err := t.tlsConfig()
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: config}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(t.host, cmp.Or(t.port, tlsPort)))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var verdict [1]byte
	if _, err := c.Read(verdict[:]); err != nil || verdict[0] != 1 {
		c.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, hint.Wrap(errors.New("libvirtd does not take this host's certificate"), "see 'tls_allowed_dn_list' in its libvirtd.conf")
	}
	return c, nil
}

// tlsConfig reads the certificates from where libvirt's own clients look
// (https://libvirt.org/kbase/tlscerts.html).
func (t target) tlsConfig() (*tls.Config, error) {
	type files struct{ ca, cert, key string }
	places := []files{{"/etc/pki/CA/cacert.pem", "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem"}}
	in := func(dir string) files {
		return files{filepath.Join(dir, "cacert.pem"), filepath.Join(dir, "clientcert.pem"), filepath.Join(dir, "clientkey.pem")}
	}
	if home, err := os.UserHomeDir(); err == nil {
		places = append([]files{in(filepath.Join(home, ".pki", "libvirt"))}, places...)
	}
	if t.pki != "" {
		places = []files{in(t.pki)}
	}
	var first error
	for _, f := range places {
		pem, err := os.ReadFile(f.ca)
		if err == nil {
			var cert tls.Certificate
			cert, err = tls.LoadX509KeyPair(f.cert, f.key)
			pool := x509.NewCertPool()
			if err == nil && !pool.AppendCertsFromPEM(pem) {
				err = fmt.Errorf("%s holds no certificate", f.ca)
			}
			if err == nil {
				return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: t.host}, nil
			}
		}
		if first == nil || errors.Is(first, fs.ErrNotExist) && !errors.Is(err, fs.ErrNotExist) {
			first = err
		}
	}
	return nil, hint.Wrap(fmt.Errorf("certificates for %s: %w", t.host, first), "see https://libvirt.org/kbase/tlscerts.html, or use qemu+ssh")
}
