package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2/maybe"
	"github.com/google/uuid"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/hostctl/hostctl/internal/usernet"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// What a domain's directory holds. QEMU runs in it and gets these names as
// they are, so the directory's own path never meets QEMU's option syntax.
const (
	domainFile   = "domain.json"
	ignitionFile = "ignition.json"
	diskFile     = "disk.qcow2"
	varsFile     = "firmware-vars" // the domain's copy of the firmware's variables
	pidFile      = "qemu.pid"      // written and locked by QEMU
	logFile      = "qemu.log"      // QEMU's own words since the last start
	serialFile   = "serial.log"    // the guest's words since the last start
	serialOld    = "serial.log.1"  // and of the start before
)

// domainVersion is the format of domain.json.
const domainVersion = 1

type domainRecord struct {
	Version int             `json:"version"`
	Domain  provider.Domain `json:"domain"`
}

// domainDir is a domain's directory. It holds keys: mode 0700, files 0600.
type domainDir string

func (p *Provider) dir(name string) domainDir {
	return domainDir(filepath.Join(p.cfg.Root, name))
}

func (d domainDir) path(file string) string { return filepath.Join(string(d), file) }

func (d domainDir) load() (provider.Domain, error) {
	data, err := os.ReadFile(d.path(domainFile))
	if errors.Is(err, fs.ErrNotExist) {
		return provider.Domain{}, fmt.Errorf("domain %q: %w", filepath.Base(string(d)), provider.ErrNotFound)
	}
	if err != nil {
		return provider.Domain{}, err
	}
	return decodeDomain(d.path(domainFile), data)
}

func decodeDomain(path string, data []byte) (provider.Domain, error) {
	var r domainRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return provider.Domain{}, fmt.Errorf("%s is damaged: %w", path, err)
	}
	switch {
	case r.Version > domainVersion:
		return provider.Domain{}, fmt.Errorf("%s has format %d of a newer hostctl; this one knows %d", path, r.Version, domainVersion)
	case r.Version < 1:
		return provider.Domain{}, fmt.Errorf("%s is damaged: format %d", path, r.Version)
	}
	if uuid.Validate(r.Domain.ID) != nil {
		return provider.Domain{}, fmt.Errorf("%s is damaged: id %q", path, r.Domain.ID)
	}
	return r.Domain, nil
}

func (d domainDir) store(dom provider.Domain) error {
	data, err := json.MarshalIndent(domainRecord{domainVersion, dom}, "", "  ")
	if err != nil {
		return err
	}
	return d.write(domainFile, append(data, '\n'))
}

// started reports whether QEMU has ever been run on the domain.
func (d domainDir) started() bool {
	_, err := os.Lstat(d.path(serialFile))
	return err == nil
}

// write replaces a file in one step.
func (d domainDir) write(file string, data []byte) error {
	return maybe.WriteFile(d.path(file), data, 0o600)
}

// remove removes the directory: first what says that the disk was used, so
// that an interrupted removal leaves no used domain without its disk, and
// domain.json last.
func (d domainDir) remove() error {
	if err := removeIfThere(d.path(serialFile)); err != nil {
		return err
	}
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == domainFile {
			continue
		}
		if err := os.RemoveAll(d.path(e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(string(d))
}

// equalButForwards compares what would be stored, but for the forwards, which
// a running guest can be given.
func equalButForwards(a, b provider.Domain) (bool, error) {
	a.Forwards, b.Forwards = nil, nil
	x, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b)
	if err != nil {
		return false, err
	}
	return string(x) == string(y), nil
}

// checkName makes sure that the name is one path element; machine names are
// DNS labels.
func checkName(name string) error {
	if name == "" || name == "." || name != filepath.Base(name) || !filepath.IsLocal(name) {
		return fmt.Errorf("domain name %q is not a file name", name)
	}
	return nil
}

// validate rejects what QEMU or its user network cannot do, before anything
// is written.
func validate(ctx context.Context, d provider.Domain) error {
	if err := uuid.Validate(d.ID); err != nil {
		return fmt.Errorf("domain %q: id %q: %w", d.Name, d.ID, err)
	}
	if d.Arch != "amd64" && d.Arch != "arm64" {
		return &provider.FieldError{Field: "image", Err: fmt.Errorf("architecture %q is not amd64 or arm64", d.Arch)}
	}
	if d.CPUs < 1 || d.CPUs > maxCPUs {
		return &provider.FieldError{Field: "cpus", Err: fmt.Errorf("%d is not between 1 and %d", d.CPUs, maxCPUs)}
	}
	if err := validateMemory(ctx, d.Memory); err != nil {
		return err
	}
	if err := validateNICs(d.NICs); err != nil {
		return err
	}
	if d.NoNAT && len(d.Forwards) > 0 {
		return noNAT(d.Forwards[0])
	}
	for _, f := range d.Forwards {
		if err := usernet.Validate(f); err != nil {
			return err
		}
	}
	return nil
}

// noNAT is what a forward meets that has no user network to be in.
func noNAT(f network.Forward) error {
	return &provider.FieldError{
		Field:  "nat",
		Err:    fmt.Errorf("forward %q needs it: QEMU forwards on the NAT network only", f.Name),
		Advice: "leave nat out",
	}
}

// maxCPUs is what every machine type of QEMU's allows.
const maxCPUs = 255

func validateMemory(ctx context.Context, m provider.MiB) error {
	if m == 0 {
		return &provider.FieldError{Field: "memory", Err: errors.New("0 is not an amount of memory")}
	}
	host, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return fmt.Errorf("the host's memory: %w", err)
	}
	if total := provider.MiB(host.Total >> 20); m > total {
		return &provider.FieldError{
			Field:  "memory",
			Err:    fmt.Errorf("%d MiB is more than this host's %d MiB", m, total),
			Advice: "ask for less memory",
		}
	}
	return nil
}
