package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"runtime"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
)

// Free space below which guests will be in want of it. A guest's first boot
// writes about 100 MiB; images of the catalog have up to 2 GiB when unpacked.
const (
	littleSpace = 5 << 30
	noSpace     = 512 << 20
)

// diskSpace looks at the disks of the cache and of the project, which are
// often one.
func (p *Patient) diskSpace(ctx context.Context) []Finding {
	cache, err := disk.UsageWithContext(ctx, existing(p.Images.Dir()))
	if err != nil {
		return one(Finding{Level: Warning, Detail: err.Error()})
	}
	machines, err := disk.UsageWithContext(ctx, p.Project.Dir())
	if err != nil {
		return one(Finding{Level: Warning, Detail: err.Error()})
	}
	// Two file systems that are equal to the byte are one.
	if cache.Total == machines.Total && cache.Free == machines.Free {
		return one(space("images and machines", p.Project.Dir(), machines.Free))
	}
	return []Finding{space("images", p.Images.Dir(), cache.Free), space("machines", p.Project.Dir(), machines.Free)}
}

func space(what, dir string, free uint64) Finding {
	f := ok("%s free for %s, in %s", size(int64(free)), what, dir)
	switch {
	case free < noSpace:
		f.Level = Problem
	case free < littleSpace:
		f.Level = Warning
	default:
		return f
	}
	f.Fix = "free some: hostctl image prune removes images that no machine uses"
	return f
}

// remote reports whether the machines of libvirt run on another computer.
func (p *Patient) remote() bool {
	u, err := url.Parse(p.libvirtURI())
	return err == nil && u.Host != "" && u.Hostname() != "localhost"
}

// emulatorCache is how much QEMU may take beside the guest's memory for the code
// that it translates: tcg/region.c, for hosts of 64 bits.
func emulatorCache(total uint64) machinefile.Size {
	return machinefile.Size(min(1<<30, total/8))
}

// emulated reports whether the machine's guest will run under emulation. libvirt
// goes by the same test of KVM as the qemu provider, which answers at once.
func (p *Patient) emulated(ctx context.Context, m *machinefile.Machine) bool {
	qemu, err := p.Provider(machinefile.QEMUProvider)
	if err != nil {
		return false
	}
	host, err := qemu.Check(ctx, provider.Needs{Arch: cmp.Or(m.Image.Arch, runtime.GOARCH), Accel: m.Accel})
	return err == nil && host.Accel == "tcg"
}

// memory compares what the machines ask for with what there is. A machine that
// runs has its memory already.
func (p *Patient) memory(ctx context.Context) []Finding {
	vm, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil || vm.Total == 0 {
		return nil // a system that does not tell is no reason to worry
	}
	running := p.running(ctx)
	var asked, caches machinefile.Size
	n := 0
	type kind struct{ arch, accel string }
	emulated := map[kind]bool{}
	for _, m := range p.machines() {
		if m.Provider == machinefile.LibvirtProvider && p.remote() {
			continue
		}
		if uint64(m.Memory) > vm.Total {
			return one(Finding{
				Level:  Problem,
				Detail: fmt.Sprintf("machine %q asks for %s, and this host has %s", m.Name, m.Memory, size(int64(vm.Total))),
				Fix:    fmt.Sprintf("choose less memory (%s line %d)", machinefile.FileName, m.RangeOf("memory").Start.Line),
			})
		}
		if running[m.Name] == nil {
			asked += m.Memory
			n++
			k := kind{m.Image.Arch, m.Accel}
			if _, known := emulated[k]; !known {
				emulated[k] = p.emulated(ctx, m)
			}
			if emulated[k] {
				caches += emulatorCache(vm.Total)
			}
		}
	}
	free := fmt.Sprintf("%s of %s free", size(int64(vm.Available)), size(int64(vm.Total)))
	if n == 0 {
		return one(ok("%s", free))
	}
	found := ok("%s; %s to boot may take %s", free, count(n, "machine"), size(int64(asked+caches)))
	if caches > 0 {
		found.Detail += fmt.Sprintf(", of which %s for emulation", size(int64(caches)))
	}
	if uint64(asked+caches) > vm.Available {
		found.Level, found.Fix = Warning, "boot fewer at a time, give them less, or end other programs"
	}
	return one(found)
}
