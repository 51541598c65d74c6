//go:build !windows

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
)

// carded is a provider whose machines have cards that wait for the switch.
type carded struct {
	provider.Provider

	mu    sync.Mutex
	ports []provider.SwitchPort
}

func (c *carded) SwitchPorts(context.Context, string) ([]provider.SwitchPort, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ports, nil
}

func (c *carded) set(ports ...provider.SwitchPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ports = ports
}

// Cards that wait are joined to their network while the machine runs, and
// nothing is started for those whose networks are the host's.
func TestSwitch(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := &carded{Provider: struct{ provider.Provider }{b.fake}}
	b.client.Provider = func(string) (provider.Provider, error) { return p, nil }
	cidr := netip.MustParsePrefix("172.28.8.0/24")
	ms := b.machine("core-01", 1)
	ms.Spec.PublishPorts, ms.Forwards = false, nil
	ms.NICs = []project.NIC{{Network: "dev", MAC: "52:54:00:00:00:01", CIDR: cidr, Address: netip.MustParseAddr("172.28.8.2")}}
	b.update(func(s *project.State) { s.Machines["core-01"] = ms })
	b.sync("core-01")
	if _, err := b.client.Status(t.Context()); !errors.Is(err, agent.ErrNotRunning) {
		t.Fatalf("status %v: an agent without need", err)
	}

	socket := filepath.Join(b.home, "nic.sock")
	l, err := net.Listen("unix", socket)
	check(t, err)
	defer l.Close()
	p.set(provider.SwitchPort{
		HostOnly: provider.HostOnly{Name: "dev", CIDR: cidr}, MAC: "52:54:00:00:00:01",
		Address: netip.MustParseAddr("172.28.8.2"), Socket: socket,
	})
	// An agent of this process, as its provider is.
	b.here(func(c *agent.Config) { c.Provider = b.client.Provider })
	b.sync("core-01")
	conn, err := l.Accept()
	check(t, err)
	defer conn.Close()
	networks := func(want ...string) {
		t.Helper()
		b.until(func() error {
			if got := b.status().Machines["core-01"].Networks; !slices.Equal(got, want) {
				return fmt.Errorf("networks %q, want %q", got, want)
			}
			return nil
		})
	}
	networks("dev")

	check(t, b.fake.Stop(t.Context(), "core-01"))
	b.sync("core-01")
	_, err = io.Copy(io.Discard, conn)
	check(t, err) // it ends
	networks()
}
