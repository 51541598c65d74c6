package lifecycle

import (
	"context"
	"errors"

	"github.com/hostctl/hostctl/provider"
)

// createMachine defines the domain, or brings a stopped one up to date.
func (b *boot) createMachine(ctx context.Context) (string, error) {
	status, err := b.provider.Status(ctx, b.name)
	if err != nil && !errors.Is(err, provider.ErrNotFound) {
		return "", err
	}
	exists := err == nil
	if exists && status.State == provider.Running {
		return "already running", nil
	}
	if err := b.provider.Create(ctx, b.domain()); err != nil {
		return "", atField(err, b.machine)
	}
	if exists {
		return "kept", nil
	}
	return cpusText(b.state.Spec.CPUs) + ", " + bytesText(b.state.Spec.Memory), nil
}

func (b *boot) domain() provider.Domain {
	spec, img := b.state.Spec, b.state.Image
	d := provider.Domain{
		Name:     b.name,
		ID:       b.state.DomainID,
		Arch:     img.Arch,
		CPUs:     spec.CPUs,
		Memory:   provider.MiB(spec.Memory >> 20),
		Accel:    spec.Accel,
		Disk:     provider.Disk{Base: img.Path, BaseFormat: img.Format, Size: max(spec.Disk, img.Size)},
		Ignition: provider.Ignition{Key: img.Guest.IgnitionKey, Config: b.ignition},
		NoNAT:    spec.NoNAT,
		NICs:     nics(b.state),
	}
	if b.forwards() {
		d.Forwards = b.state.Forwards
	}
	if f := img.Firmware; f != nil {
		d.Disk.Firmware = &provider.Firmware{Code: f.Code, Vars: f.Vars, Format: f.Format}
	}
	return d
}
