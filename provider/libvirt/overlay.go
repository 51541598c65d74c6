package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/provider"
)

// ensureDisk makes the domain's overlay, or keeps the one there is and grows it, and
// notes in r what it lies on.
func (d *driver) ensureDisk(ctx context.Context, p pool, dom provider.Domain, r *record, old domain, exists bool) error {
	image, err := inspectBase(dom.Disk)
	if err != nil {
		return err
	}
	if dom.Disk.Size != 0 && dom.Disk.Size < image.size {
		return &provider.FieldError{
			Field:  "disk",
			Err:    fmt.Errorf("%d bytes are less than the image's %d", dom.Disk.Size, image.size),
			Advice: fmt.Sprintf("ask for at least %d MiB, or leave disk out", (image.size+1<<20-1)>>20),
		}
	}
	project := d.cfg.ProjectID()
	name := volumeName(project, dom.Name, dom.ID, diskVolume)
	disk, err := p.seek(ctx, name)
	if err != nil {
		return err
	}
	serial, err := p.seek(ctx, volumeName(project, dom.Name, dom.ID, serialVolume))
	if err != nil {
		return err
	}
	switch used := serial.exists(); {
	case exists && !disk.exists() && used:
		return hint.Wrap(fmt.Errorf("the machine's disk %s is gone from storage pool %q", name, p.Name),
			"put it back, or destroy the machine and bring it up anew with an empty one")
	case exists && old.record.Domain.Disk.Base != dom.Disk.Base:
		return &provider.FieldError{
			Field:  "image",
			Err:    fmt.Errorf("the machine's disk was made from %s, not %s", old.record.Domain.Disk.Base, dom.Disk.Base),
			Advice: "a machine keeps its image: destroy it and bring it up anew, or go back to the former image",
		}
	case exists:
	case disk.exists() && used:
		// Somebody removed the definition; the guest's data is still there.
		d.log.InfoContext(ctx, "adopting a disk without its domain", "volume", name)
		r.Base = disk.backing()
		if path.Dir(r.Base) == p.dir && strings.HasPrefix(path.Base(r.Base), basePrefix) {
			r.BaseVolume = path.Base(r.Base)
		}
	default:
		disk = volume{}
		if err := p.removeLeftovers(ctx, project, dom.Name); err != nil {
			return err
		}
	}
	if disk.exists() {
		if err := d.ensureShared(ctx, p, r.BaseVolume, basePrefix, dom.Disk.Base); err != nil {
			return err
		}
		return p.grow(ctx, disk, dom.Disk.Size)
	}
	return d.createOverlay(ctx, p, name, dom.Disk, max(dom.Disk.Size, image.size), r)
}

// removeLeftovers removes what an interrupted Create has left: it may be of another
// image, and holds nothing yet.
func (p pool) removeLeftovers(ctx context.Context, project, machine string) error {
	all, err := p.volumes(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(v rpc.StorageVol) bool { return isVolumeOf(project, machine, v.Name) }) {
		return nil
	}
	return p.removeVolumes(ctx, project, machine)
}

// createOverlay makes an empty one. The shared base may vanish between the moment
// it was seen and the overlay's making, when another project's last machine is
// removed; then it is uploaded again.
func (d *driver) createOverlay(ctx context.Context, p pool, name string, disk provider.Disk, size uint64, r *record) error {
	for attempt := 0; ; attempt++ {
		b, err := d.ensureBase(ctx, p, disk.Base, basePrefix)
		if err != nil {
			return err
		}
		_, err = p.create(ctx, libvirtxml.StorageVolume{
			Name:     name,
			Capacity: &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: size},
			Target: &libvirtxml.StorageVolumeTarget{
				Format:      &libvirtxml.StorageVolumeTargetFormat{Type: "qcow2"},
				Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0600"},
				Compat:      "1.1",
			},
			BackingStore: &libvirtxml.StorageVolumeBackingStore{Path: b.path, Format: &libvirtxml.StorageVolumeTargetFormat{Type: disk.BaseFormat}},
		})
		// A call that was repeated on a new connection may find its own work.
		if err == nil || code(err) == rpc.ErrStorageVolExist {
			r.Base, r.BaseVolume = b.path, b.volume
			return nil
		}
		if b.volume == "" || attempt > 0 {
			return fmt.Errorf("make the machine's disk: %w", err)
		}
		v, verr := p.seek(ctx, b.volume)
		if poolLost(verr) {
			return verr // the base went with its pool
		}
		if verr != nil || v.exists() {
			return errors.Join(fmt.Errorf("make the machine's disk: %w", err), verr)
		}
	}
}

// ensureShared makes sure that a shared volume, if that is what a domain has, is
// there and whole. It can be made again only from the same file.
func (d *driver) ensureShared(ctx context.Context, p pool, volume, namePrefix, file string) error {
	if volume == "" {
		return nil
	}
	name, err := sharedName(namePrefix, file)
	if err == nil && name == volume {
		release, err := d.acquire(ctx, "volume "+name)
		if err != nil {
			return err
		}
		defer release()
		return p.share(ctx, name, file, uploadPatience)
	}
	v, verr := p.seek(ctx, volume)
	if verr != nil || v.exists() {
		return verr
	}
	return &provider.FieldError{
		Field:  "image",
		Err:    errors.Join(fmt.Errorf("volume %s that the machine's disk lies on is gone from storage pool %q, and %s is not the file it was made from", volume, p.Name, file), err),
		Advice: "destroy the machine and bring it up anew",
	}
}

// grow makes the overlay of a stopped domain as large as size asks; 0 asks for
// nothing.
func (p pool) grow(ctx context.Context, disk volume, size uint64) error {
	var have uint64
	if disk.Capacity != nil {
		have = disk.Capacity.Value // always bytes
	}
	switch {
	case size == 0 || size == have:
		return nil
	case size < have:
		return &provider.FieldError{
			Field:  "disk",
			Err:    fmt.Errorf("the machine's disk has %d bytes and cannot shrink to %d", have, size),
			Advice: "a disk only grows: destroy the machine for a smaller one",
		}
	}
	return do(ctx, p.driver.conn, func(l *rpc.Libvirt) error { return l.StorageVolResize(disk.StorageVol, size, 0) })
}

// ensureFirmware gives the domain its firmware, if it boots by one of its own, and its
// own copy of the variables.
func (d *driver) ensureFirmware(ctx context.Context, p pool, dom provider.Domain, r *record, s *surroundings) error {
	fw := dom.Disk.Firmware
	if fw == nil {
		return nil
	}
	code, err := d.ensureBase(ctx, p, fw.Code, firmwarePrefix)
	if err != nil {
		return err
	}
	r.FirmwareVolume = code.volume
	name := volumeName(d.cfg.ProjectID(), dom.Name, dom.ID, varsVolume)
	have, err := p.seek(ctx, name)
	if err != nil {
		return err
	}
	template, err := os.ReadFile(fw.Vars)
	if err != nil {
		return err
	}
	whole := false
	if have.exists() {
		size, err := p.size(ctx, have.StorageVol)
		if err != nil {
			return err
		}
		whole = size == uint64(len(template))
	}
	if !whole {
		if err := p.put(ctx, name, template); err != nil {
			return err
		}
	}
	s.firmware = &provider.Firmware{Code: code.path, Vars: p.path(name), Format: fw.Format}
	return nil
}

// ensureIgnition writes the guest's configuration into a volume: on QEMU's command
// line, or in the definition, others could read the keys in it.
func (d *driver) ensureIgnition(ctx context.Context, p pool, name string, dom provider.Domain, r record, old domain) error {
	if old.record.Ignition == r.Ignition {
		v, err := p.seek(ctx, name)
		if err != nil || v.exists() {
			return err
		}
	}
	if err := p.put(ctx, name, dom.Ignition.Config); err != nil {
		return fmt.Errorf("write the guest's Ignition config: %w", err)
	}
	return nil
}

// prepareStart makes sure that what a stopped domain lies on is there, and notes
// that its disk is used from now on.
func (d *driver) prepareStart(ctx context.Context, dom domain) error {
	r := dom.record
	p, err := d.pool(ctx, r.Pool)
	if err != nil {
		return err
	}
	if r.BaseVolume == "" && d.target.local() {
		if _, err := os.Stat(r.Base); err != nil {
			return &provider.FieldError{Field: "image", Err: err}
		}
	}
	if err := d.ensureShared(ctx, p, r.BaseVolume, basePrefix, r.Domain.Disk.Base); err != nil {
		return err
	}
	if fw := r.Domain.Disk.Firmware; fw != nil {
		if err := d.ensureShared(ctx, p, r.FirmwareVolume, firmwarePrefix, fw.Code); err != nil {
			return err
		}
	}
	name := volumeName(d.cfg.ProjectID(), r.Domain.Name, r.Domain.ID, serialVolume)
	serial, err := p.seek(ctx, name)
	if err != nil || serial.exists() {
		return err
	}
	if _, err := p.create(ctx, file(name)); err != nil && code(err) != rpc.ErrStorageVolExist {
		return fmt.Errorf("make the serial log: %w", err)
	}
	return nil
}
