// Package sshtest runs OpenSSH's server on loopback, as tests of what goes
// over SSH need it: the user who runs the tests is the guest's.
package sshtest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/internal/sshclient"
)

// Server is an sshd.
type Server struct {
	Target sshclient.Target
	Key    []byte // of Target.Signer, in OpenSSH's format

	argv []string
	log  *os.File
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[*net.TCPConn]bool
}

// Start starts an sshd with the SFTP subsystem, which ends with the test. More
// lines for its configuration can be given.
func Start(t testing.TB, lines ...string) *Server {
	t.Helper()
	s, err := start(t, lines)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t testing.TB, lines []string) (*Server, error) {
	program, err := findServer()
	if err != nil {
		return nil, err
	}
	login, err := user.Current()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		// Where it puts those who are not logged in yet; a boot makes it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, err
		}
	}
	hostKey, hostPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	userKey, userPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	dir := t.TempDir()
	config := fmt.Sprintf(`HostKey %[1]s/host
AuthorizedKeysFile %[1]s/authorized
PermitRootLogin yes
StrictModes no
UsePAM no
UseDNS no
Subsystem sftp internal-sftp
%[2]s
`, dir, strings.Join(lines, "\n"))
	for name, data := range map[string][]byte{
		"host":       hostPEM,
		"authorized": ssh.MarshalAuthorizedKey(userKey.PublicKey()),
		"config":     []byte(config),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	s := &Server{
		Target: sshclient.Target{Addr: l.Addr().(*net.TCPAddr).AddrPort(), User: login.Username, Signer: userKey, HostKey: hostKey.PublicKey()},
		Key:    userPEM,
		argv:   []string{program, "-i", "-e", "-f", filepath.Join(dir, "config")},
		log:    log,
		conns:  make(map[*net.TCPConn]bool),
	}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		s.accept(l)
	}()
	t.Cleanup(func() {
		_ = l.Close() // nobody is waiting at it any more
		<-accepting
		s.HangUp()
		s.wg.Wait()
		_ = log.Close() // sshd has written it
		if said, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("sshd: %s", said)
		}
	})
	return s, nil
}

// accept gives every connection an sshd of its own, as inetd does: sshd cannot
// be told to choose a free port.
func (s *Server) accept(l *net.TCPListener) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			if err := s.serve(conn); err != nil {
				fmt.Fprintln(s.log, err)
			}
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			_ = conn.Close() // sshd is through with it
		})
	}
}

func (s *Server) serve(conn *net.TCPConn) error {
	socket, err := conn.File()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), s.argv[0], s.argv[1:]...) // until HangUp
	cmd.Stdin, cmd.Stdout, cmd.Stderr = socket, socket, s.log
	err = cmd.Start()
	_ = socket.Close() // sshd has it
	if err != nil {
		return err
	}
	return cmd.Wait()
}

// HangUp ends all connections.
func (s *Server) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		// sshd has the same socket, which closing ours would not end.
		_ = conn.CloseRead()
		_ = conn.CloseWrite()
	}
}

// findServer returns sshd's path, which it insists on.
func findServer() (string, error) {
	if path, err := exec.LookPath("sshd"); err == nil {
		return path, nil
	}
	for _, path := range []string{"/usr/sbin/sshd", "/sbin/sshd"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no sshd here: scripts/setup test installs it")
}

func newKey() (ssh.Signer, []byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, nil, err
	}
	return signer, pem.EncodeToMemory(block), nil
}
