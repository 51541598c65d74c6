//go:build !windows

package agent_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/provider"
)

// guest is an SSH server with a nat table, at 10.0.2.15 as the host 10.0.2.2
// sees it.
type guest struct {
	t        *testing.T
	listener net.Listener
	config   *ssh.ServerConfig
	target   sshclient.Target

	mu     sync.Mutex
	conns  map[net.Conn]bool
	table  string   // what was restored last; "" after a removal
	refuse string   // what sudo says instead
	clocks []string // what its clock was set to
	told   string   // the last command to be told of file changes
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	host, login := newSigner(t), newSigner(t)
	g := &guest{t: t, listener: l, conns: map[net.Conn]bool{}}
	g.config = &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(login.PublicKey().Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	g.config.AddHostKey(host)
	g.target = sshclient.Target{
		Addr: l.Addr().(*net.TCPAddr).AddrPort(), User: "core", Signer: login, HostKey: host.PublicKey(),
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.mu.Lock()
			g.conns[conn] = true
			g.mu.Unlock()
			serving.Go(func() { g.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.reboot()
		serving.Wait()
	})
	return g
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	check(t, err)
	return signer
}

// reboot ends all connections and empties the table.
func (g *guest) reboot() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		c.Close()
	}
	clear(g.conns)
	g.table = ""
}

// says makes sudo refuse, with these words.
func (g *guest) says(refuse string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = refuse
}

// rules are those of the table, one a line.
func (g *guest) rules() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for line := range strings.Lines(g.table) {
		if strings.HasPrefix(line, "-A ") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

func (g *guest) serve(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, g.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for nc := range channels {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		go func() {
			defer ch.Close()
			for req := range reqs {
				if req.Type != "exec" {
					req.Reply(false, nil)
					continue
				}
				req.Reply(true, nil)
				var command struct{ Line string }
				ssh.Unmarshal(req.Payload, &command)
				exit := g.exec(command.Line, ch)
				ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{exit}))
				return
			}
		}()
	}
}

func (g *guest) exec(line string, ch ssh.Channel) uint32 {
	if strings.HasPrefix(line, "'sudo' '-n' 'unshare' ") { // to be told of file changes
		g.mu.Lock()
		g.told = line
		g.mu.Unlock()
		io.WriteString(ch.Stderr(), "sudo: a password is required\n")
		return 1
	}
	in, _ := io.ReadAll(ch)
	g.mu.Lock()
	defer g.mu.Unlock()
	if line == cloudconfig.ClockCommand {
		g.clocks = append(g.clocks, string(in))
		return 0
	}
	if !strings.HasPrefix(line, `echo "$SSH_CONNECTION"; `) {
		g.t.Errorf("command %q", line)
	}
	io.WriteString(ch, "10.0.2.2 40000 10.0.2.15 22\n")
	switch {
	case g.refuse != "":
		io.WriteString(ch.Stderr(), g.refuse+"\n")
		return 1
	case strings.Contains(line, "iptables-restore"):
		g.table = string(in)
	default:
		g.table = ""
	}
	return 0
}

// here runs the agent in this process, with what change makes of its
// configuration, and returns what ends it.
func (b *bench) here(change func(*agent.Config)) (stop func()) {
	b.t.Helper()
	log, err := os.OpenFile(filepath.Join(b.project.StateDir(), "agent.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	check(b.t, err)
	_, err = b.project.RunDir()
	check(b.t, err)
	cfg := agent.Config{
		Project: b.project, Target: noSSH, Version: "1", Log: log,
		Provider: func(string) (provider.Provider, error) { return b.fake, nil },
	}
	change(&cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx, cfg) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("agent: %v", err)
		}
		log.Close()
	})
	b.t.Cleanup(stop)
	b.until(func() error {
		_, err := b.client.Status(b.t.Context())
		return err
	})
	return stop
}

// Ports that containers bind to loopback are redirected in the guest.
func TestRedirects(t *testing.T) {
	t.Parallel()
	b, e, g := newBench(t), newEngine(t), newGuest(t)
	b.machine("core-01", e.port())
	stop := b.here(func(c *agent.Config) {
		c.Target = func(string, project.MachineState) (sshclient.Target, error) { return g.target, nil }
	})
	port := free(t)
	e.run("db", "172.17.0.2", fmt.Sprintf("127.0.0.1:%d:80/tcp", port))
	e.run("twin", "172.17.0.3", fmt.Sprintf("127.0.0.2:%d:81/tcp", port))
	e.run("own", "172.17.0.4", fmt.Sprintf("10.0.2.15:%d:82/udp", port))
	db := fmt.Sprintf("-A HOSTCTL-PUBLISH -p tcp --dport %d -j DNAT --to-destination 172.17.0.2:80", port)
	twin := "-A HOSTCTL-PUBLISH -p tcp --dport 61000 -j DNAT --to-destination 172.17.0.3:81"
	b.sync("core-01")
	rules := func(want ...string) {
		t.Helper()
		b.until(func() error {
			if got := g.rules(); !slices.Equal(got, want) {
				return fmt.Errorf("rules %q, want %q", got, want)
			}
			return nil
		})
	}
	forwards := func(count int) {
		t.Helper()
		b.until(func() error {
			if live := b.live("core-01"); len(live) != count {
				return fmt.Errorf("forwards %q, want %d", live, count)
			}
			return nil
		})
	}
	rules(db, twin)
	forwards(3)
	live, err := b.fake.LiveForwards(t.Context(), "core-01")
	check(t, err)
	var tos []string
	for _, f := range live {
		tos = append(tos, fmt.Sprintf("%d/%s", f.GuestPort, f.Protocol))
	}
	slices.Sort(tos)
	want := []string{fmt.Sprintf("%d/tcp", port), fmt.Sprintf("%d/udp", port), "61000/tcp"}
	slices.Sort(want)
	if !slices.Equal(tos, want) {
		t.Errorf("forwards to %q, want %q", tos, want)
	}
	b.until(func() error {
		for _, p := range b.status().Machines["core-01"].Published {
			if p.GuestPort != port || p.Error != "" {
				return fmt.Errorf("published %+v, want guest port %d", p, port)
			}
		}
		return nil
	})

	// A reset guest: its table is empty, its engine new.
	g.reboot()
	rules(db, twin)

	e.end("db")
	// The other one has the port to itself now.
	rules(strings.Replace(twin, "61000", fmt.Sprint(port), 1))
	forwards(2)

	stop()
	rules()
	forwards(0)
}

// A guest that does not let us change its table says so, and what needs no
// change works.
func TestRedirectRefused(t *testing.T) {
	t.Parallel()
	b, e, g := newBench(t), newEngine(t), newGuest(t)
	b.machine("core-01", e.port())
	g.says("sudo: a password is required")
	b.here(func(c *agent.Config) {
		c.Target = func(string, project.MachineState) (sshclient.Target, error) { return g.target, nil }
	})
	local, open := free(t), free(t)
	e.run("local", "172.17.0.2", fmt.Sprintf("127.0.0.1:%d:80/tcp", local))
	e.run("open", "172.17.0.3", fmt.Sprintf("0.0.0.0:%d:80/tcp", open))
	b.sync("core-01")
	b.eventually("core-01", fmt.Sprintf("127.0.0.1:%d -> %d/tcp", open, open))
	b.until(func() error {
		want := fmt.Sprintf("local:80/tcp 127.0.0.1:%d %d iptables in the guest: exit status 1: sudo: a password is required", local, local)
		if got := b.published("core-01"); !slices.Contains(got, want) {
			return fmt.Errorf("published %q, want %q", got, want)
		}
		return nil
	})
	// It is asked again.
	g.says("")
	b.until(func() error {
		if live := b.live("core-01"); len(live) != 2 {
			return fmt.Errorf("forwards %q", live)
		}
		return nil
	})
}
