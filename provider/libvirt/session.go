package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/hostctl/hostctl/internal/usernet"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// Session is the user's own libvirt: it has no networks, and its guests reach the
// world through QEMU's user network, which forwards host ports, too. libvirt 9 knows
// nothing of those, so they are QEMU's monitor's affair.
type Session struct{ *driver }

var (
	_ provider.Provider      = (*Session)(nil)
	_ provider.Console       = (*Session)(nil)
	_ provider.Watcher       = (*Session)(nil)
	_ provider.Forwarder     = (*Session)(nil)
	_ provider.HostAddresser = (*Session)(nil)
)

// natCard is what libvirt calls the first card's end in QEMU.
const natCard = "hostnet0"

func (s *Session) check(_ context.Context, d provider.Domain) error {
	if len(d.NICs) > 0 {
		field := "interface"
		if d.NICs[0].HostOnly != nil {
			field = "cidr"
		}
		return &provider.FieldError{
			Field: field, Network: d.NICs[0].Network, Err: errors.New("a libvirt session makes no networks"),
			Advice: `use qemu:///system, or provider = "qemu"`,
		}
	}
	for _, f := range d.Forwards {
		if d.NoNAT {
			return noNAT(f)
		}
		if err := usernet.Validate(f); err != nil {
			return err
		}
	}
	return nil
}

func noNAT(f network.Forward) error {
	return &provider.FieldError{
		Field:  "nat",
		Err:    fmt.Errorf("forward %q needs it: a libvirt session forwards on the NAT network only", f.Name),
		Advice: "leave nat out",
	}
}

func (s *Session) remembered(d provider.Domain) provider.Domain { return d }

func (s *Session) prepare(context.Context, provider.Domain, netip.Prefix) (cards, error) {
	return cards{}, nil
}

func (s *Session) release(context.Context, string) error { return nil }

// boot has libvirt make the VM, sets up its forwards, and only then lets it run: a
// guest that waits was left so by an interrupted call.
func (s *Session) boot(ctx context.Context, dom domain) error {
	if dom.running() && dom.state != rpc.DomainPaused {
		return nil
	}
	if !dom.running() {
		if err := s.startDomain(ctx, dom, rpc.DomainStartPaused); err != nil {
			return err
		}
	}
	for _, f := range dom.record.Domain.Forwards {
		if err := s.forward(ctx, dom, f); err != nil {
			return errors.Join(err, s.powerOff(context.WithoutCancel(ctx), dom))
		}
	}
	err := do(ctx, s.conn, func(l *rpc.Libvirt) error { return l.DomainResume(dom.Domain) })
	if alreadyActive(err) {
		return nil
	}
	return err
}

// forward adds one that is not there yet.
func (s *Session) forward(ctx context.Context, dom domain, f network.Forward) error {
	if there, err := s.has(ctx, dom, f); there || err != nil {
		return err
	}
	said, err := s.monitor(ctx, dom, "hostfwd_add "+natCard+" "+usernet.Rule(f))
	if err != nil || said == "" {
		return err
	}
	// Perhaps another hostctl was faster.
	if there, err := s.has(ctx, dom, f); there || err != nil {
		return err
	}
	return usernet.Explain(ctx, f, said)
}

func (s *Session) has(ctx context.Context, dom domain, f network.Forward) (bool, error) {
	live, err := s.forwards(ctx, dom)
	for _, l := range live {
		if l.Name = f.Name; l == f {
			return true, nil
		}
	}
	return false, err
}

func (s *Session) forwards(ctx context.Context, dom domain) ([]network.Forward, error) {
	table, err := s.monitor(ctx, dom, "info usernet")
	return usernet.Parse(table), err
}

// monitor gives QEMU's monitor a command.
func (s *Session) monitor(ctx context.Context, dom domain, command string) (string, error) {
	const human = 1 // VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
	out, err := call(ctx, s.conn, func(l *rpc.Libvirt) (string, error) { return l.QEMUDomainMonitorCommand(dom.Domain, command, human) })
	if code(err) == rpc.ErrOperationInvalid || code(err) == rpc.ErrNoDomain {
		return "", fmt.Errorf("domain %q is %w", dom.record.Domain.Name, provider.ErrNotRunning)
	}
	return strings.TrimSpace(out), err
}

// running finds a domain that has a monitor.
func (s *Session) running(ctx context.Context, name string) (domain, error) {
	dom, err := s.find(ctx, name)
	if err == nil && !dom.running() {
		err = fmt.Errorf("domain %q is %w", name, provider.ErrNotRunning)
	}
	return dom, err
}

// LiveForwards implements [provider.Forwarder]. QEMU keeps no names.
func (s *Session) LiveForwards(ctx context.Context, name string) ([]network.Forward, error) {
	dom, err := s.running(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.forwards(ctx, dom)
}

// AddForward implements [provider.Forwarder].
func (s *Session) AddForward(ctx context.Context, name string, f network.Forward) error {
	if err := usernet.Validate(f); err != nil {
		return err
	}
	dom, err := s.running(ctx, name)
	if err != nil {
		return err
	}
	if dom.record.Domain.NoNAT {
		return noNAT(f)
	}
	return s.forward(ctx, dom, f)
}

// RemoveForward implements [provider.Forwarder].
func (s *Session) RemoveForward(ctx context.Context, name string, f network.Forward) error {
	dom, err := s.running(ctx, name)
	if err != nil {
		return err
	}
	// QEMU looks at the host's side only, and another forward may have it now.
	if there, err := s.has(ctx, dom, f); !there || err != nil {
		return err
	}
	said, err := s.monitor(ctx, dom, fmt.Sprintf("hostfwd_remove %s %s:%s", natCard, f.Protocol, f.HostAddr()))
	if err == nil && !strings.HasSuffix(said, " removed") {
		err = fmt.Errorf("forward %q: %s", f.Name, said)
	}
	return err
}
