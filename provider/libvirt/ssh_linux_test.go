package libvirt_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/provider"
)

// sshHost is an SSH server that leads to the lab's libvirtd and networks.
type sshHost struct {
	addr    string
	hostKey ssh.Signer
	userKey string // path
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

func newSSHHost(t *testing.T) *sshHost {
	t.Helper()
	hostKey, _ := newKey(t)
	user, private := newKey(t)
	h := &sshHost{hostKey: hostKey, userKey: filepath.Join(t.TempDir(), "id")}
	if err := os.WriteFile(h.userKey, private, 0o600); err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "core" || string(key.Marshal()) != string(user.PublicKey().Marshal()) {
			return nil, errors.New("not the user")
		}
		return &ssh.Permissions{}, nil
	}}
	config.AddHostKey(hostKey)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h.addr = l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go h.serve(c, config)
		}
	}()
	return h
}

func (h *sshHost) serve(c net.Conn, config *ssh.ServerConfig) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for nc := range channels {
		network, addr, ok := destination(nc)
		if !ok {
			_ = nc.Reject(ssh.UnknownChannelType, nc.ChannelType())
			continue
		}
		out, err := net.Dial(network, addr)
		if err != nil {
			_ = nc.Reject(ssh.ConnectionFailed, err.Error())
			continue
		}
		in, requests, err := nc.Accept()
		if err != nil {
			out.Close()
			continue
		}
		go ssh.DiscardRequests(requests)
		go func() { _, _ = io.Copy(in, out); in.Close() }()
		go func() { _, _ = io.Copy(out, in); out.Close() }()
	}
}

// destination is where a channel is to lead (RFC 4254 7.2, OpenSSH's PROTOCOL 2.4).
func destination(nc ssh.NewChannel) (network, addr string, ok bool) {
	switch nc.ChannelType() {
	case "direct-streamlocal@openssh.com":
		var to struct {
			Path, Reserved0 string
			Reserved1       uint32
		}
		err := ssh.Unmarshal(nc.ExtraData(), &to)
		return "unix", to.Path, err == nil
	case "direct-tcpip":
		var to struct {
			Host   string
			Port   uint32
			Origin string
			OPort  uint32
		}
		err := ssh.Unmarshal(nc.ExtraData(), &to)
		return "tcp", net.JoinHostPort(to.Host, fmt.Sprint(to.Port)), err == nil
	}
	return "", "", false
}

func (h *sshHost) uri(t *testing.T, user string, known ssh.PublicKey) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	text := ""
	if known != nil {
		text = knownhosts.Line([]string{h.addr}, known) + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("qemu+ssh://%s@%s/system?keyfile=%s&known_hosts=%s&socket=%s", user, h.addr, h.userKey, file, lab.Socket)
}

// libvirt behind SSH: only a host that is known, and guests are reached through it.
func TestThroughSSH(t *testing.T) {
	lab.Libvirtd(t)
	h := newSSHHost(t)
	stranger, _ := newKey(t)
	for _, c := range []struct {
		name, user string
		known      ssh.PublicKey
		want, hint string
	}{
		{"a host that is not known", "core", nil, "the host key of 127.0.0.1 is not known", "log in once and compare the key"},
		{"another host", "core", stranger.PublicKey(), "127.0.0.1 has another host key than known_hosts says", "somebody may be listening in"},
		{"another user", "root", h.hostKey.PublicKey(), "127.0.0.1 does not let root in", "ssh-agent"},
	} {
		p := newPlace(h.uri(t, c.user, c.known), lab.Socket).provider(t, time.Second)
		_, err := p.Check(t.Context(), provider.Needs{Arch: "amd64"})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%s: %v, hint %q", c.name, err, hint.Of(err))
		}
	}

	s := newSite(t, h.uri(t, "core", h.hostKey.PublicKey()))
	s.up()
	nat, _ := provider.As[provider.NATAddresser](s.p)
	addr, err := nat.NATAddress(t.Context(), "core", s.d.ID)
	s.ok(err)
	// The suite's guest does not speak IP; the way to it is tried all the same.
	dialer, _ := provider.As[provider.Dialer](s.p)
	if _, err := dialer.DialGuest(t.Context(), "core", "udp", 53); err == nil || !strings.Contains(err.Error(), "SSH carries no udp") || hint.Of(err) == "" {
		t.Errorf("udp: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if c, err := dialer.DialGuest(ctx, "core", "tcp", 22); err == nil {
		c.Close()
		t.Errorf("a guest without a network answers at %s", addr)
	}
	daemon := lab.Libvirtd(t)
	daemon.Restart(t)
	s.state(provider.Running)
}
