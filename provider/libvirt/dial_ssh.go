package libvirt

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/hostctl/hostctl/internal/hint"
)

const sshPort = "22"

// dialSSH reaches libvirtd through its host's SSH server.
func (t target) dialSSH(ctx context.Context) (line, error) {
	client, err := t.login(ctx)
	if err != nil {
		return line{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = client.Close() }) // fails when it is closed
	defer stop()
	c, err := t.throughSSH(client)
	if err != nil {
		_ = client.Close() // the error says more
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return line{}, fmt.Errorf("libvirtd on %s: %w", t.host, err)
	}
	return line{Conn: c, ssh: client}, nil
}

// throughSSH connects to libvirtd's socket. Where that is the session's, or is not at its
// usual place, libvirt's own program there knows.
func (t target) throughSSH(client *ssh.Client) (net.Conn, error) {
	var first error
	if !t.session || t.socket != "" {
		c, err := client.Dial("unix", cmp.Or(t.socket, "/var/run/libvirt/libvirt-sock"))
		if err == nil || t.socket != "" {
			return c, err
		}
		first = err
	}
	c, err := runHelper(client, t.driver)
	return c, errors.Join(first, err)
}

// helperConn is a program at the other end of an SSH connection.
type helperConn struct {
	io.Reader
	io.WriteCloser
	session *ssh.Session
}

// runHelper starts libvirt's virt-ssh-helper, which carries libvirtd's protocol
// over its input and output (libvirt 6.8 and newer have it).
func runHelper(client *ssh.Client, driver string) (net.Conn, error) {
	s, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	in, err := s.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.Start("virt-ssh-helper " + driver); err != nil {
		_ = s.Close() // the error says more
		return nil, err
	}
	return helperConn{Reader: out, WriteCloser: in, session: s}, nil
}

func (c helperConn) Close() error {
	if err := c.session.Close(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

type helperAddr struct{}

func (helperAddr) Network() string { return "ssh" }
func (helperAddr) String() string  { return "virt-ssh-helper" }

func (helperConn) LocalAddr() net.Addr              { return helperAddr{} }
func (helperConn) RemoteAddr() net.Addr             { return helperAddr{} }
func (helperConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (helperConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (helperConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// login opens the SSH connection. Only a host key that known_hosts has is taken.
func (t target) login(ctx context.Context) (*ssh.Client, error) {
	addr := net.JoinHostPort(t.host, cmp.Or(t.port, sshPort))
	check, algorithms, err := t.hostKeys(addr)
	if err != nil {
		return nil, err
	}
	name := t.user
	if name == "" {
		u, err := user.Current()
		if err != nil {
			return nil, err
		}
		name = u.Username[strings.LastIndexByte(u.Username, '\\')+1:] // Windows puts a domain before it
	}
	signers, done, err := t.signers(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User:              name,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback:   check,
		HostKeyAlgorithms: algorithms,
	})
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, t.explainLogin(name, err)
	}
	return ssh.NewClient(c, channels, requests), nil
}

func (t target) explainLogin(name string, err error) error {
	port := ""
	if t.port != "" {
		port = " -p " + t.port
	}
	if key, ok := errors.AsType[*knownhosts.KeyError](err); ok {
		if len(key.Want) == 0 {
			return hint.Wrap(fmt.Errorf("the host key of %s is not known", t.host), "log in once and compare the key: ssh%s %s@%s", port, name, t.host)
		}
		return hint.Wrap(fmt.Errorf("%s has another host key than known_hosts says (%s)", t.host, key.Want[0].Filename),
			"somebody may be listening in; if the host was made anew: ssh-keygen -R %s", t.host)
	}
	if strings.Contains(err.Error(), "unable to authenticate") {
		return hint.Wrap(fmt.Errorf("%s does not let %s in: %w", t.host, name, err), "try it: ssh%s %s@%s virsh list; keys with a passphrase must be in ssh-agent", port, name, t.host)
	}
	return err
}

// hostKeys returns what verifies the host's key, and the kinds of key that are
// known of it: the server must not offer one of another kind.
func (t target) hostKeys(addr string) (ssh.HostKeyCallback, []string, error) {
	files := []string{t.known}
	if t.known == "" {
		files = []string{"/etc/ssh/ssh_known_hosts"}
		if home, err := os.UserHomeDir(); err == nil {
			files = append(files, filepath.Join(home, ".ssh", "known_hosts"))
		}
		files = slices.DeleteFunc(files, func(f string) bool {
			_, err := os.Stat(f)
			return errors.Is(err, fs.ErrNotExist)
		})
	}
	check, err := knownhosts.New(files...)
	if err != nil {
		return nil, nil, err
	}
	// A key that nobody has makes it list those that it would take.
	nobodys, err := ssh.NewPublicKey(make(ed25519.PublicKey, ed25519.PublicKeySize))
	if err != nil {
		return nil, nil, err
	}
	var algorithms []string
	if known, ok := errors.AsType[*knownhosts.KeyError](check(addr, &net.TCPAddr{}, nobodys)); ok {
		for _, k := range known.Want {
			if k.Key.Type() == ssh.KeyAlgoRSA {
				algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			} else {
				algorithms = append(algorithms, k.Key.Type())
			}
		}
	}
	return check, algorithms, nil
}

// signers are the agent's keys and those at ssh's usual places, or the one that
// the URI names. done is called once they are not needed any more.
func (t target) signers(ctx context.Context) (all []ssh.Signer, done func(), err error) {
	done = func() {}
	if t.keyFile != "" {
		s, err := readKey(t.keyFile)
		return []ssh.Signer{s}, done, err
	}
	if path := os.Getenv("SSH_AUTH_SOCK"); path != "" {
		if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
			done = func() { conn.Close() }
			if all, err = agent.NewClient(conn).Signers(); err != nil {
				all = nil // the files may do
			}
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return all, done, nil // no home, no keys there
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		if s, err := readKey(filepath.Join(home, ".ssh", name)); err == nil {
			all = append(all, s)
		}
	}
	return all, done, nil
}

func readKey(path string) (ssh.Signer, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}
