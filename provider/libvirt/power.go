package libvirt

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/provider"
)

// startDomain boots a stopped domain, and lets a paused one go on: QEMU pauses one
// whose disk it cannot write because the pool is full.
func (d *driver) startDomain(ctx context.Context, dom domain, flags rpc.DomainCreateFlags) error {
	if dom.state == rpc.DomainPaused {
		// Or somebody else is just starting it.
		err := do(ctx, d.conn, func(l *rpc.Libvirt) error { return l.DomainResume(dom.Domain) })
		if alreadyActive(err) {
			return nil
		}
		return err
	}
	if dom.running() {
		return nil
	}
	_, err := call(ctx, d.conn, func(l *rpc.Libvirt) (rpc.Domain, error) { return l.DomainCreateWithFlags(dom.Domain, uint32(flags)) })
	if err == nil || alreadyActive(err) {
		return nil
	}
	return explainStart(dom, err)
}

// What QEMU says when it cannot start, as libvirt passes it on.
var (
	memoryPattern     = regexp.MustCompile(`cannot set up guest memory`)
	accelPattern      = regexp.MustCompile(`Could not access KVM kernel module|failed to initialize (?:kvm|KVM)|invalid accelerator|No accelerator found|KVM is not available`)
	permissionPattern = regexp.MustCompile(`Could not open '[^']*': Permission denied|Cannot access storage file '[^']*'.*Permission denied`)
)

// interfaceIn reports whether an error names a network interface.
func interfaceIn(text, name string) bool {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" '\",:;()", r) }) {
		if word == name {
			return true
		}
	}
	return false
}

// explainStart names the field of the machine file that QEMU's complaint is about.
func explainStart(dom domain, err error) error {
	switch text := err.Error(); {
	case memoryPattern.MatchString(text):
		return &provider.FieldError{
			Field:  "memory",
			Err:    fmt.Errorf("libvirt's host has no %d MiB to give: %w", dom.record.Domain.Memory, err),
			Advice: "ask for less memory or stop other machines",
		}
	case accelPattern.MatchString(text):
		return &provider.FieldError{Field: "accel", Err: err, Advice: `leave accel out, or set accel = "tcg" to run under emulation`}
	case permissionPattern.MatchString(text):
		return hint.Wrap(err, "QEMU's user on libvirt's host must be able to read the pool's directory")
	}
	for _, n := range dom.record.Domain.NICs {
		if n.Interface != "" && interfaceIn(err.Error(), n.Interface) {
			return &provider.FieldError{Field: "interface", Network: n.Network, Err: err, Advice: "choose another interface of libvirt's host"}
		}
	}
	return err
}

var errStillRunning = errors.New("the guest is still running")

// powerDown presses the guest's power button until libvirt says that the domain has
// stopped, at most for the grace period.
func (d *driver) powerDown(ctx context.Context, dom domain) error {
	grace, cancel := context.WithTimeout(ctx, d.cfg.Grace)
	defer cancel()
	for {
		events, err := d.events(grace)
		if err == nil {
			err = d.pressUntilStopped(grace, dom, events)
		}
		switch {
		case errors.Is(err, errStillRunning):
			continue // the connection was lost
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case grace.Err() != nil:
			return fmt.Errorf("it did not shut down within %s", d.cfg.Grace)
		}
		return err
	}
}

// pressUntilStopped returns errStillRunning when the events end before the guest does.
func (d *driver) pressUntilStopped(ctx context.Context, dom domain, events <-chan rpc.DomainEventLifecycleMsg) error {
	again := time.NewTicker(powerdownEvery)
	defer again.Stop()
	for {
		// It may have stopped before anybody listened.
		if state, err := d.state(ctx, dom.Domain); code(err) == rpc.ErrNoDomain {
			return nil
		} else if err != nil {
			return err
		} else if state == rpc.DomainShutoff || state == rpc.DomainCrashed {
			return nil
		}
		err := do(ctx, d.conn, func(l *rpc.Libvirt) error { return l.DomainShutdownFlags(dom.Domain, rpc.DomainShutdownAcpiPowerBtn) })
		if err != nil && code(err) != rpc.ErrOperationInvalid && code(err) != rpc.ErrNoDomain {
			return fmt.Errorf("power button: %w", err)
		}
		for pressed := true; pressed; {
			select {
			case e, ok := <-events:
				if !ok {
					return errStillRunning
				}
				if e.Dom.UUID == dom.UUID && rpc.DomainEventType(e.Event) == rpc.DomainEventStopped {
					return nil
				}
			case <-again.C:
				pressed = false
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// powerOff ends QEMU: by a signal, so that it writes what it holds of the disk,
// then by force.
func (d *driver) powerOff(ctx context.Context, dom domain) error {
	err := do(ctx, d.conn, func(l *rpc.Libvirt) error { return l.DomainDestroy(dom.Domain) })
	if code(err) == rpc.ErrOperationInvalid || code(err) == rpc.ErrNoDomain {
		return nil // it has just ended
	}
	return err
}

// events subscribes to the changes of all domains, until ctx ends or the connection
// is lost.
func (d *driver) events(ctx context.Context) (<-chan rpc.DomainEventLifecycleMsg, error) {
	s, err := d.conn.link(ctx)
	if err != nil {
		return nil, err
	}
	in, err := within(ctx, func() (<-chan rpc.DomainEventLifecycleMsg, error) { return s.LifecycleEvents(ctx) })
	if err != nil {
		if broken(err) {
			d.conn.drop(s)
			return nil, errStillRunning
		}
		return nil, err
	}
	// go-libvirt waits for the last event to be taken, also after ctx has ended.
	out := make(chan rpc.DomainEventLifecycleMsg)
	go func() {
		defer close(out)
		for e := range in {
			select {
			case out <- e:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}
