package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
)

// arches are those of the guests of a provider's machines; the host's own
// where there are none.
func (p *Patient) arches(providerName string) []string {
	var all []string
	for _, m := range p.machines() {
		if m.Provider == providerName {
			all = append(all, cmp.Or(m.Image.Arch, runtime.GOARCH))
		}
	}
	if len(all) == 0 {
		return []string{runtime.GOARCH}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// qemu looks for QEMU's programs. A project whose machines are all libvirt's
// needs them on libvirt's host, which says so itself.
func (p *Patient) qemu(ctx context.Context) []Finding {
	qemu, err := p.Provider(machinefile.QEMUProvider)
	if err != nil {
		return one(failed(err))
	}
	var found []Finding
	for _, arch := range p.arches(machinefile.QEMUProvider) {
		host, err := qemu.Check(ctx, provider.Needs{Arch: arch})
		switch {
		case err == nil:
			found = append(found, ok("%s, for %s guests", host.Version, arch))
		case p.uses(machinefile.LibvirtProvider) && !p.uses(machinefile.QEMUProvider):
			found = append(found, Finding{Level: Info, Detail: err.Error() + `; no machine has provider = "qemu"`})
		default:
			found = append(found, failed(err))
		}
	}
	return found
}

// acceleration says what guests run on, and whether the machine file asks for
// what there is.
func (p *Patient) acceleration(ctx context.Context) []Finding {
	qemu, err := p.Provider(machinefile.QEMUProvider)
	if err != nil {
		return nil // qemu says so
	}
	var found []Finding
	for _, arch := range p.arches(machinefile.QEMUProvider) {
		host, err := qemu.Check(ctx, provider.Needs{Arch: arch})
		switch {
		case err != nil: // qemu says so
		case host.Notice != "":
			f := Finding{Level: Warning, Detail: host.Notice}
			if arch == runtime.GOARCH {
				if why, fix := mendAcceleration(); fix != "" {
					f.Detail, f.Fix = cmp.Or(why, f.Detail), fix
				}
			}
			found = append(found, f)
		default:
			found = append(found, ok("%s, for %s guests", host.Accel, arch))
		}
	}
	asked := map[provider.Needs]bool{}
	for _, m := range p.machines() {
		needs := provider.Needs{Arch: cmp.Or(m.Image.Arch, runtime.GOARCH), Accel: m.Accel}
		if m.Accel == "" || m.Provider != machinefile.QEMUProvider || asked[needs] {
			continue
		}
		asked[needs] = true
		_, err := qemu.Check(ctx, needs)
		if _, wrong := errors.AsType[*provider.FieldError](err); wrong {
			found = append(found, Finding{
				Level:  Problem,
				Detail: fmt.Sprintf("machine %q: %v", m.Name, err),
				Fix:    cmp.Or(hint.Of(err), "leave accel out to take the best there is"),
			})
		}
	}
	return found
}
