//go:build !windows

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
)

// addressed is a provider that does not forward: its guests have addresses, at
// which to finds their ports.
type addressed struct {
	provider.Provider
	to func(protocol string, port uint16) string
}

func (a addressed) DialGuest(ctx context.Context, _, protocol string, port uint16) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, protocol, a.to(protocol, port))
}

// greeter is a TCP server that says hello and closes.
func greeter(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	return l.Addr().String()
}

// hello asks for it at a port of this host.
func hello(t *testing.T, port uint16) error {
	t.Helper()
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer c.Close()
	data, err := io.ReadAll(c)
	if err == nil && string(data) != "hello" {
		err = fmt.Errorf("got %q", data)
	}
	return err
}

// Where the provider does not forward, the agent carries the machine's
// forwards and those of its containers, while it runs.
func TestCarriedForwards(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	greets := greeter(t)
	p := addressed{b.fake, func(_ string, port uint16) string {
		if port == 2375 {
			return e.addr
		}
		return greets
	}}
	// Without the fake's own forwarding.
	p.Provider = struct{ provider.Provider }{b.fake}
	b.client.Provider = func(string) (provider.Provider, error) { return p, nil }
	web, taken, published := free(t), free(t), free(t)
	holder, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", taken))
	check(t, err)
	defer holder.Close()
	ms := b.machine("core-01", free(t), network.Forward{Name: "web", Protocol: "tcp", HostIP: loopback, HostPort: web, GuestPort: 80})
	ms.Forwards = append(ms.Forwards, network.Forward{Name: "taken", Protocol: "tcp", HostIP: loopback, HostPort: taken, GuestPort: 81})
	b.update(func(s *project.State) { s.Machines["core-01"] = ms })
	b.here(func(c *agent.Config) { c.Provider = b.client.Provider })

	err = b.client.Sync(t.Context(), "core-01")
	port, ok := errors.AsType[*provider.PortError](err)
	if !ok || port.Forward.Name != "taken" || port.Forward.HostPort != taken {
		t.Fatalf("sync: %v, want the port of taken", err)
	}
	if in, ok := errors.AsType[*network.InUseError](err); !ok || in.Holder == nil {
		t.Errorf("sync: %v, want who holds the port", err)
	}
	check(t, hello(t, web))

	// It moves on, as lifecycle does, and another forward goes.
	ms.Forwards = []network.Forward{ms.Forwards[0], {Name: "taken", Protocol: "tcp", HostIP: loopback, HostPort: free(t), GuestPort: 81}}
	b.update(func(s *project.State) { s.Machines["core-01"] = ms })
	b.sync("core-01")
	check(t, hello(t, ms.Forwards[1].HostPort))
	if err := hello(t, web); err == nil {
		t.Error("a forward that is gone from the state is there still")
	}

	e.run("web", "172.17.0.2", fmt.Sprintf("0.0.0.0:%d:80/tcp", published))
	b.until(func() error { return hello(t, published) })
	// The machine file has the port now, for something else.
	ms.Forwards = append(ms.Forwards, network.Forward{Name: "mine", Protocol: "tcp", HostIP: loopback, HostPort: published, GuestPort: 82})
	b.update(func(s *project.State) { s.Machines["core-01"] = ms })
	b.sync("core-01")
	check(t, hello(t, published))
	b.until(func() error {
		ports := b.status().Machines["core-01"].Published
		if len(ports) != 1 || ports[0].HostPort == published || !ports[0].Moved || ports[0].Error != "" {
			return fmt.Errorf("published %+v", ports)
		}
		return nil
	})

	check(t, b.fake.Stop(t.Context(), "core-01"))
	b.sync("core-01")
	for _, f := range ms.Forwards {
		check(t, network.Probe(t.Context(), f))
	}
}

// watched is a provider that says when a machine changes.
type watched struct {
	*providertest.Fake
	changes chan string
}

func (w watched) Watch(ctx context.Context, changed func(name string)) error {
	for {
		select {
		case name := <-w.changes:
			changed(name)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// What the provider says about a machine is followed at once.
func TestWatch(t *testing.T) {
	t.Parallel()
	b, e := newBench(t), newEngine(t)
	p := watched{b.fake, make(chan string)}
	b.machine("core-01", e.port())
	b.here(func(c *agent.Config) {
		c.Provider = func(string) (provider.Provider, error) { return p, nil }
	})
	b.sync("core-01")
	running := func(want bool) {
		t.Helper()
		b.until(func() error {
			if _, got := b.status().Machines["core-01"]; got != want {
				return fmt.Errorf("followed: %v, want %v", got, want)
			}
			return nil
		})
	}
	running(true)
	check(t, b.fake.Stop(t.Context(), "core-01"))
	p.changes <- "core-01"
	running(false)
	check(t, b.fake.Start(t.Context(), "core-01"))
	p.changes <- ""
	running(true)
}
