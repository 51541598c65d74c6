package sshclient

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// guest is an SSH server that runs commands in this host's shell.
type guest struct {
	t       *testing.T
	hostKey ssh.Signer
	user    ssh.Signer // the key that may log in

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	return &guest{t: t, hostKey: newSigner(t), user: newSigner(t)}
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ecdsaSigner(t *testing.T) ssh.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listen serves every connection with handle until the test ends.
func (g *guest) listen(handle func(n int, conn net.Conn)) Target {
	g.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	g.wg.Go(func() {
		for n := 1; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.mu.Lock()
			g.conns = append(g.conns, conn)
			g.mu.Unlock()
			g.wg.Go(func() { handle(n, conn) })
		}
	})
	g.t.Cleanup(func() {
		if err := l.Close(); err != nil {
			g.t.Error(err)
		}
		g.hangUp()
		g.wg.Wait()
	})
	return g.target(netip.MustParseAddrPort(l.Addr().String()))
}

func (g *guest) target(addr netip.AddrPort) Target {
	return Target{Addr: addr, User: "core", Signer: g.user, HostKey: g.hostKey.PublicKey()}
}

// start serves SSH.
func (g *guest) start() Target {
	g.t.Helper()
	return g.listen(func(_ int, conn net.Conn) { g.serve(conn) })
}

// hangUp cuts all connections.
func (g *guest) hangUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
}

func (g *guest) config() *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if meta.User() != "core" || !bytes.Equal(key.Marshal(), g.user.PublicKey().Marshal()) {
				return nil, errors.New("refused")
			}
			return nil, nil
		},
	}
	config.AddHostKey(g.hostKey)
	return config
}

func (g *guest) serve(conn net.Conn) {
	sc, channels, requests, err := ssh.NewServerConn(conn, g.config())
	if err != nil {
		_ = conn.Close()
		return
	}
	g.wg.Go(func() { ssh.DiscardRequests(requests) })
	for nc := range channels {
		ch, requests, err := nc.Accept()
		if err != nil {
			continue
		}
		g.wg.Go(func() { (&guestSession{g: g, conn: sc, ch: ch}).serve(requests) })
	}
}

type guestSession struct {
	g     *guest
	conn  *ssh.ServerConn
	ch    ssh.Channel
	pty   bool
	agent bool
	cmd   *exec.Cmd
}

func (s *guestSession) serve(requests <-chan *ssh.Request) {
	for req := range requests {
		ok := true
		switch req.Type {
		case "pty-req":
			var pty struct {
				Term                         string
				Columns, Rows, Width, Height uint32
				Modes                        string
			}
			ok = ssh.Unmarshal(req.Payload, &pty) == nil
			s.pty = true
			s.say("pty %s %dx%d", pty.Term, pty.Columns, pty.Rows)
		case "window-change":
			var size struct{ Columns, Rows, Width, Height uint32 }
			ok = ssh.Unmarshal(req.Payload, &size) == nil
			s.say("size %dx%d", size.Columns, size.Rows)
		case "auth-agent-req@openssh.com":
			s.agent = true
		case "signal":
			if s.cmd != nil {
				_ = s.cmd.Process.Signal(syscall.SIGTERM)
			}
		case "shell":
			s.g.wg.Go(s.shell)
		case "exec":
			var exec struct{ Command string }
			ok = ssh.Unmarshal(req.Payload, &exec) == nil
			_ = req.Reply(ok, nil) // before the command can end
			req.WantReply = false
			switch {
			case s.pty:
				s.say("command %s", exec.Command)
				s.g.wg.Go(s.shell)
			case exec.Command == "list agent keys":
				s.g.wg.Go(s.listKeys)
			default:
				s.run(exec.Command)
			}
		default:
			ok = false
		}
		if req.WantReply {
			_ = req.Reply(ok, nil)
		}
	}
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
	}
}

func (s *guestSession) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.ch, format+"\r\n", args...)
}

func (s *guestSession) exit(status uint32) {
	_, _ = s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
	_ = s.ch.Close()
}

// shell tells what it is given, byte by byte, and ends with status 7 at "q".
func (s *guestSession) shell() {
	buf := make([]byte, 64)
	for {
		n, err := s.ch.Read(buf)
		if n > 0 {
			s.say("got %q", buf[:n])
		}
		if bytes.ContainsRune(buf[:n], 'q') || err != nil {
			s.exit(7)
			return
		}
	}
}

func (s *guestSession) listKeys() {
	if !s.agent {
		s.say("no agent")
		s.exit(1)
		return
	}
	ch, requests, err := s.conn.OpenChannel("auth-agent@openssh.com", nil)
	if err != nil {
		s.say("%v", err)
		s.exit(1)
		return
	}
	go ssh.DiscardRequests(requests)
	keys, err := agent.NewClient(ch).List()
	if err != nil {
		s.say("%v", err)
		s.exit(1)
		return
	}
	for _, k := range keys {
		s.say("%s", k.Comment)
	}
	_ = ch.Close()
	s.exit(0)
}

func (s *guestSession) run(command string) {
	s.cmd = exec.CommandContext(context.Background(), "sh", "-c", command)
	s.cmd.Stdout, s.cmd.Stderr = s.ch, s.ch.Stderr()
	stdin, err := s.cmd.StdinPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.say("%v", err)
		s.exit(127)
		return
	}
	s.g.wg.Go(func() {
		_, _ = io.Copy(stdin, s.ch)
		_ = stdin.Close()
	})
	s.g.wg.Go(func() {
		err := s.cmd.Wait()
		status, _ := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if err != nil && status.Signaled() {
			name := strings.ToUpper(map[syscall.Signal]string{syscall.SIGTERM: "term", syscall.SIGKILL: "kill"}[status.Signal()])
			_, _ = s.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
				Signal string
				Core   bool
				Error  string
				Lang   string
			}{Signal: name}))
			_ = s.ch.Close()
			return
		}
		s.exit(uint32(s.cmd.ProcessState.ExitCode()))
	})
}

// buffered is one end of a pipe that takes writes without a reader, as a
// socket does.
type buffered struct {
	net.Conn
	queue chan []byte
}

func bufferedPipe() (here, there net.Conn) {
	a, b := net.Pipe()
	return newBuffered(a), newBuffered(b)
}

func newBuffered(c net.Conn) *buffered {
	b := &buffered{c, make(chan []byte, 100)}
	go func() {
		for p := range b.queue {
			if p == nil {
				return
			}
			_, _ = c.Write(p)
		}
	}()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	b.queue <- bytes.Clone(p)
	return len(p), nil
}

func (b *buffered) Close() error {
	b.queue <- nil
	return b.Conn.Close()
}
