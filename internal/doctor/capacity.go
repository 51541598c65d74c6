package doctor

import (
	"context"
	"fmt"
	"net/url"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/hostctl/hostctl/machinefile"
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
	u, err := url.Parse(p.Config.Libvirt.URI)
	return err == nil && u.Host != "" && u.Hostname() != "localhost"
}

// memory compares what the machines ask for with what there is. A machine that
// runs has its memory already.
func (p *Patient) memory(ctx context.Context) []Finding {
	vm, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil || vm.Total == 0 {
		return nil // a system that does not tell is no reason to worry
	}
	running := p.running(ctx)
	var asked machinefile.Size
	n := 0
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
		}
	}
	free := fmt.Sprintf("%s of %s free", size(int64(vm.Available)), size(int64(vm.Total)))
	switch {
	case n == 0:
		return one(ok("%s", free))
	case uint64(asked) > vm.Available:
		return one(Finding{
			Level:  Warning,
			Detail: fmt.Sprintf("%s; %s to boot may take %s", free, count(n, "machine"), asked),
			Fix:    "boot fewer at a time, give them less, or end other programs",
		})
	}
	return one(ok("%s; %s to boot may take %s", free, count(n, "machine"), asked))
}
