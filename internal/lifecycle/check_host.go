package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"time"

	units "github.com/docker/go-units"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
)

// checkHost finds out whether the provider works here and the machine fits.
func (b *boot) checkHost(ctx context.Context) (string, error) {
	state, err := b.engine.Project.Load()
	if err != nil {
		return "", err
	}
	arch := cmp.Or(b.machine.Image.Arch, runtime.GOARCH)
	if !b.replace {
		// A machine that exists keeps its image, whatever the file says now.
		arch = cmp.Or(state.Machines[b.name].Image.Arch, arch)
	}
	host, err := b.checkProvider(ctx, arch)
	if err != nil {
		return "", err
	}
	if err := b.checkMemory(ctx); err != nil {
		return "", err
	}
	if err := b.checkPorts(ctx, state); err != nil {
		return "", err
	}
	if err := b.checkNetworks(ctx, state); err != nil {
		return "", err
	}
	if err := b.checkShares(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s, %s", b.providerName(), host.Version, accelText(b.accel)), nil
}

// checkProvider finds out how a guest of that architecture runs here.
func (b *boot) checkProvider(ctx context.Context, arch string) (provider.Host, error) {
	p, err := b.engine.Provider(b.providerName())
	if err != nil {
		return provider.Host{}, err
	}
	starts := b.status.State != provider.Running || b.restart || b.replace
	host, err := b.engine.check(ctx, b.providerName(), p, provider.Needs{Arch: arch, Accel: b.machine.Accel}, starts)
	if err != nil {
		return provider.Host{}, atField(err, b.machine)
	}
	b.arch, b.accel = arch, host.Accel
	return host, nil
}

func accelText(accel string) string {
	if accel == "tcg" {
		return "emulation"
	}
	return accel
}

// checkMemory refuses a machine that is larger than this host: the kernel
// would kill it, or something dearer, in the middle of work.
func (b *boot) checkMemory(ctx context.Context) error {
	vm, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil || vm.Total == 0 {
		return nil // a system that does not tell is no reason to refuse
	}
	if uint64(b.machine.Memory) <= vm.Total {
		return nil
	}
	return atField(&provider.FieldError{
		Field:  "memory",
		Err:    fmt.Errorf("machine %q asks for %s, and this host has %s", b.name, units.BytesSize(float64(b.machine.Memory)), units.BytesSize(float64(vm.Total))),
		Advice: "choose less",
	}, b.machine)
}

// warnOfMemory says when the machines that are asked for fit this host only
// one by one. That is no error: guests rarely use all they may.
func (e *Engine) warnOfMemory(ctx context.Context, boots []*boot) {
	var sum uint64
	for _, b := range boots {
		sum += uint64(b.machine.Memory)
	}
	vm, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil || len(boots) < 2 || vm.Total == 0 || sum <= vm.Total {
		return
	}
	e.Reporter.Report(Event{Time: time.Now(), Kind: Notice, Message: fmt.Sprintf(
		"these %d machines ask for %s together, and this host has %s: it may run out",
		len(boots), units.BytesSize(float64(sum)), units.BytesSize(float64(vm.Total)))})
}

// checkPorts refuses a taken host port that the machine file insists on before
// anything is created or halted. Assigning looks again, under the lock.
func (b *boot) checkPorts(ctx context.Context, state *project.State) error {
	if b.status.State != provider.Running && b.state.Provider != "" && !b.forwards() {
		// The agent may not have noticed yet that the guest is down.
		if err := b.engine.agent().Sync(ctx, b.name); err != nil {
			return err
		}
	}
	var held set
	if b.status.State == provider.Running {
		held = b.state.Forwards
	}
	p := &ports{}
	for _, w := range wishes(b.machine, project.Spec{}, nil) {
		if w.fixed && !held.has(w.Forward) {
			if err := p.fixed(ctx, w, false, b.name, state); err != nil {
				return err
			}
		}
	}
	return nil
}
