package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/wait"
)

// Pools that are used without having been named: libvirt's own, and else one of
// hostctl's.
const (
	usualPool = "default"
	ownPool   = "hostctl"
	// ownPoolUUID makes two that define it at once define the same.
	ownPoolUUID = "5f6c1d0e-3a55-4c0c-9d7b-6a1f1f7d0c01"
)

var errNoPool = errors.New("libvirt has no storage pool")

// pool is an active storage pool of files.
type pool struct {
	driver *driver
	rpc.StoragePool
	dir string // on libvirt's host
}

func (p pool) path(volume string) string { return path.Join(p.dir, volume) }

// pool returns the storage pool of that name, "" the one for new domains, and
// starts it when it was stopped.
func (d *driver) pool(ctx context.Context, name string) (pool, error) {
	if name == "" {
		var err error
		if name, err = d.choosePool(ctx); err != nil {
			return pool{}, err
		}
	}
	sp, err := call(ctx, d.conn, func(l *rpc.Libvirt) (rpc.StoragePool, error) { return l.StoragePoolLookupByName(name) })
	if code(err) == rpc.ErrNoStoragePool {
		return pool{}, hint.Wrap(fmt.Errorf("%w %q", errNoPool, name), "%s", d.poolAdvice(ctx))
	}
	if err != nil {
		return pool{}, err
	}
	definition, err := call(ctx, d.conn, func(l *rpc.Libvirt) (string, error) { return l.StoragePoolGetXMLDesc(sp, 0) })
	if err != nil {
		return pool{}, err
	}
	var x libvirtxml.StoragePool
	if err := x.Unmarshal(definition); err != nil {
		return pool{}, fmt.Errorf("storage pool %q: %w", name, err)
	}
	if x.Target == nil || x.Type != "dir" && x.Type != "fs" && x.Type != "netfs" {
		return pool{}, hint.Wrap(fmt.Errorf("storage pool %q is of type %s and does not hold files", name, x.Type), "%s", d.poolAdvice(ctx))
	}
	return pool{d, sp, x.Target.Path}, d.startPool(ctx, sp)
}

func (d *driver) startPool(ctx context.Context, sp rpc.StoragePool) error {
	active, err := call(ctx, d.conn, func(l *rpc.Libvirt) (int32, error) { return l.StoragePoolIsActive(sp) })
	if err != nil || active != 0 {
		return err
	}
	if sp.Name == ownPool {
		// Its directory may not be there yet, or not any more.
		if err := do(ctx, d.conn, func(l *rpc.Libvirt) error { return l.StoragePoolBuild(sp, rpc.StoragePoolBuildNew) }); err != nil && !alreadyActive(err) {
			return fmt.Errorf("make the directory of storage pool %q: %w", sp.Name, err)
		}
	}
	err = do(ctx, d.conn, func(l *rpc.Libvirt) error { return l.StoragePoolCreate(sp, 0) })
	if err != nil && !alreadyActive(err) {
		return fmt.Errorf("start storage pool %q: %w", sp.Name, err)
	}
	return nil
}

// alreadyActive says that somebody else was faster: libvirt has no code of its own
// for that.
func alreadyActive(err error) bool {
	return code(err) == rpc.ErrOperationInvalid && strings.Contains(err.Error(), "already")
}

func (d *driver) poolAdvice(ctx context.Context) string {
	names, err := d.filePools(ctx, false)
	if err != nil || len(names) == 0 {
		return "leave pool out, and hostctl makes one"
	}
	return "it has " + strings.Join(names, ", ")
}

// filePools names the pools that hold files.
func (d *driver) filePools(ctx context.Context, active bool) ([]string, error) {
	flags := rpc.ConnectListStoragePoolsDir | rpc.ConnectListStoragePoolsFs | rpc.ConnectListStoragePoolsNetfs
	if active {
		flags |= rpc.ConnectListStoragePoolsActive
	}
	pools, err := call(ctx, d.conn, func(l *rpc.Libvirt) ([]rpc.StoragePool, error) {
		pools, _, err := l.ConnectListAllStoragePools(1, flags)
		return pools, err
	})
	names := make([]string, len(pools))
	for i, p := range pools {
		names[i] = p.Name
	}
	return names, err
}

// choosePool names the pool for new domains, and makes one where there is none.
func (d *driver) choosePool(ctx context.Context) (string, error) {
	if d.cfg.Pool != "" {
		return d.cfg.Pool, nil
	}
	all, err := d.filePools(ctx, false)
	if err != nil {
		return "", err
	}
	for _, name := range []string{usualPool, ownPool} {
		for _, have := range all {
			if have == name {
				return name, nil
			}
		}
	}
	active, err := d.filePools(ctx, true)
	if err != nil {
		return "", err
	}
	if len(active) > 0 {
		return active[0], nil
	}
	return ownPool, d.makePool(ctx)
}

// makePool defines a pool of hostctl's own. QEMU's user must get through its
// directory.
func (d *driver) makePool(ctx context.Context) error {
	dir := "/var/lib/libvirt/hostctl"
	if d.target.session {
		if !d.target.local() {
			return hint.Wrap(errors.New("that session has no storage pool"), "make one there: virsh -c qemu:///session pool-define-as %s dir --target DIRECTORY", ownPool)
		}
		data := os.Getenv("XDG_DATA_HOME")
		if data == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return err
			}
			data = filepath.Join(home, ".local", "share")
		}
		dir = filepath.Join(data, "libvirt", "hostctl")
	}
	x := libvirtxml.StoragePool{
		Type:   "dir",
		Name:   ownPool,
		UUID:   ownPoolUUID,
		Target: &libvirtxml.StoragePoolTarget{Path: dir, Permissions: &libvirtxml.StoragePoolTargetPermissions{Mode: "0711"}},
	}
	definition, err := x.Marshal()
	if err != nil {
		return err
	}
	sp, err := call(ctx, d.conn, func(l *rpc.Libvirt) (rpc.StoragePool, error) { return l.StoragePoolDefineXML(definition, 0) })
	if err != nil {
		return fmt.Errorf("make storage pool %s: %w", ownPool, err)
	}
	if err := do(ctx, d.conn, func(l *rpc.Libvirt) error { return l.StoragePoolSetAutostart(sp, 1) }); err != nil {
		d.log.InfoContext(ctx, "pool will not start with libvirt", "pool", ownPool, "error", err)
	}
	return d.startPool(ctx, sp)
}

// volume is what libvirt says of a volume.
type volume struct {
	rpc.StorageVol
	libvirtxml.StorageVolume
}

// backing is the path of what an overlay lies on.
func (v volume) backing() string {
	if v.BackingStore == nil {
		return ""
	}
	return v.BackingStore.Path
}

// volume looks for a volume; one that there is not has no name.
func (p pool) volume(ctx context.Context, name string) (volume, error) {
	v, err := call(ctx, p.driver.conn, func(l *rpc.Libvirt) (rpc.StorageVol, error) { return l.StorageVolLookupByName(p.StoragePool, name) })
	if code(err) == rpc.ErrNoStorageVol {
		return volume{}, nil
	}
	if err != nil {
		return volume{}, err
	}
	return p.describe(ctx, v)
}

// seek is volume for those to whom it matters that one is not there: libvirt loses
// sight of volumes that are made while it looks through the pool, as it does after
// each upload.
func (p pool) seek(ctx context.Context, name string) (volume, error) {
	v, err := p.volume(ctx, name)
	if err != nil || v.exists() {
		return v, err
	}
	if err := p.refresh(ctx); err != nil {
		return volume{}, err
	}
	return p.volume(ctx, name)
}

// exists reports whether v is there.
func (v volume) exists() bool { return v.StorageVol.Name != "" }

func (p pool) describe(ctx context.Context, v rpc.StorageVol) (volume, error) {
	definition, err := call(ctx, p.driver.conn, func(l *rpc.Libvirt) (string, error) { return l.StorageVolGetXMLDesc(v, 0) })
	if code(err) == rpc.ErrNoStorageVol {
		return volume{}, nil
	}
	if err != nil {
		return volume{}, err
	}
	out := volume{StorageVol: v}
	if err := out.Unmarshal(definition); err != nil {
		return volume{}, fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return out, nil
}

// volumes lists the pool's.
func (p pool) volumes(ctx context.Context) ([]rpc.StorageVol, error) {
	return call(ctx, p.driver.conn, func(l *rpc.Libvirt) ([]rpc.StorageVol, error) {
		all, _, err := l.StoragePoolListAllVolumes(p.StoragePool, 1, 0)
		return all, err
	})
}

// create makes a volume, by whose name no other may be there.
func (p pool) create(ctx context.Context, x libvirtxml.StorageVolume) (rpc.StorageVol, error) {
	definition, err := x.Marshal()
	if err != nil {
		return rpc.StorageVol{}, err
	}
	return call(ctx, p.driver.conn, func(l *rpc.Libvirt) (rpc.StorageVol, error) {
		return l.StorageVolCreateXML(p.StoragePool, definition, 0)
	})
}

// remove deletes a volume. One that does not exist is not an error.
func (p pool) remove(ctx context.Context, v rpc.StorageVol) error {
	err := do(ctx, p.driver.conn, func(l *rpc.Libvirt) error { return l.StorageVolDelete(v, 0) })
	if code(err) == rpc.ErrNoStorageVol {
		return nil
	}
	return err
}

// file describes an empty volume that is to hold bytes as they are.
func file(name string) libvirtxml.StorageVolume {
	return libvirtxml.StorageVolume{
		Name:       name,
		Capacity:   &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: 0},
		Allocation: &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: 0},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: "raw"},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0600"},
		},
	}
}

// put makes a volume with that content, in place of any of that name.
func (p pool) put(ctx context.Context, name string, content []byte) error {
	old, err := p.seek(ctx, name)
	if err != nil {
		return err
	}
	if old.exists() {
		if err := p.remove(ctx, old.StorageVol); err != nil {
			return err
		}
	}
	v, err := p.create(ctx, file(name))
	if err != nil {
		return err
	}
	return p.upload(ctx, v, bytes.NewReader(content))
}

// upload fills a volume. It goes on as long as bytes are taken.
func (p pool) upload(ctx context.Context, v rpc.StorageVol, from io.Reader) error {
	s, err := p.driver.conn.link(ctx)
	if err != nil {
		return err
	}
	beat := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() { done <- s.StorageVolUpload(v, &beating{ctx, from, beat}, 0, 0, 0) }()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				return fmt.Errorf("upload %s: %w", v.Name, err)
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat:
		case <-time.After(answerTimeout):
			return fmt.Errorf("upload %s: libvirtd has taken nothing for %s", v.Name, answerTimeout)
		}
	}
}

// beating is a reader that tells when it is read, and ends with its context.
type beating struct {
	ctx  context.Context //nolint:containedctx // of one call
	from io.Reader
	beat chan<- struct{}
}

func (b *beating) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	select {
	case b.beat <- struct{}{}:
	default:
	}
	// A packet arrives whole or not at all: small ones show that it goes on.
	return b.from.Read(p[:min(len(p), 256<<10)])
}

// errUploading says that a volume is not whole yet.
var errUploading = errors.New("somebody else uploads it")

// uploadPatience is how long an upload may stand still until it counts as given up. A
// slow line brings several packets in that time.
const uploadPatience = 5 * time.Second

// progress tells an upload of somebody else's that goes on from what one that was
// killed, or whose computer sleeps, has left.
type progress struct {
	size  uint64 // that was seen last
	since time.Time
}

// stalled reports whether the size has been the same for as long as patience.
func (p *progress) stalled(size uint64, now time.Time, patience time.Duration) bool {
	if size != p.size || p.since.IsZero() {
		p.size, p.since = size, now
	}
	return now.Sub(p.since) >= patience
}

// share makes sure that the pool holds a whole copy of a file of this host's, which
// any number of domains use. A copy counts as whole when it is as long as the file, for
// uploads write from front to end. One that is not is waited for while it grows, and
// else begun anew: libvirt lets anybody delete what somebody is uploading, so that two
// who did not look would take it from each other for ever.
func (p pool) share(ctx context.Context, name, source string, patience time.Duration) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	var other progress
	return wait.Until(ctx, 250*time.Millisecond, func(ctx context.Context) error {
		v, err := p.seek(ctx, name)
		if err != nil {
			return wait.Permanent(err)
		}
		if v.exists() {
			size, err := p.size(ctx, v.StorageVol)
			if err != nil {
				return wait.Permanent(err)
			}
			if size == uint64(info.Size()) {
				return nil
			}
			if !other.stalled(size, time.Now(), patience) {
				return errUploading
			}
			if err := p.remove(ctx, v.StorageVol); code(err) == rpc.ErrOperationInvalid {
				return errUploading // or clones it, or it is being made
			} else if err != nil {
				return wait.Permanent(err)
			}
		}
		made := file(name)
		made.Target.Permissions.Mode = "0644"
		vol, err := p.create(ctx, made)
		if code(err) == rpc.ErrStorageVolExist {
			return errUploading
		}
		if err != nil {
			return wait.Permanent(err)
		}
		p.driver.log.InfoContext(ctx, "uploading", "file", source, "volume", name, "bytes", info.Size())
		from, err := os.Open(source)
		if err != nil {
			return wait.Permanent(err)
		}
		defer from.Close()
		if err := p.upload(ctx, vol, from); err != nil {
			if code(err) == rpc.ErrNoStorageVol || broken(err) {
				return err // somebody took it for a leftover, or libvirtd restarted
			}
			return wait.Permanent(err)
		}
		return errors.New("the upload is not whole") // unless the next look says so
	})
}

// retire removes the pool that hostctl made itself, once nothing is in it.
func (p pool) retire(ctx context.Context) error {
	if p.Name != ownPool {
		return nil
	}
	left, err := p.volumes(ctx)
	if err != nil || len(left) > 0 {
		return err
	}
	for _, step := range []func(*rpc.Libvirt) error{
		func(l *rpc.Libvirt) error { return l.StoragePoolDestroy(p.StoragePool) },
		func(l *rpc.Libvirt) error { return l.StoragePoolDelete(p.StoragePool, rpc.StoragePoolDeleteNormal) },
		func(l *rpc.Libvirt) error { return l.StoragePoolUndefine(p.StoragePool) },
	} {
		err := do(ctx, p.driver.conn, step)
		if code(err) == rpc.ErrNoStoragePool {
			return nil
		}
		if err != nil {
			// Somebody else has begun to use it.
			p.driver.log.InfoContext(ctx, "pool is kept", "pool", p.Name, "error", err)
			return p.driver.startPool(ctx, p.StoragePool)
		}
	}
	return nil
}

// poolLost says that the pool was retired by another project's Delete just now.
func poolLost(err error) bool {
	return errors.Is(err, errNoPool) || code(err) == rpc.ErrNoStoragePool ||
		code(err) == rpc.ErrOperationInvalid && strings.Contains(err.Error(), "is not active")
}

// size is how many bytes a volume's file has.
func (p pool) size(ctx context.Context, v rpc.StorageVol) (uint64, error) {
	return call(ctx, p.driver.conn, func(l *rpc.Libvirt) (uint64, error) {
		_, _, physical, err := l.StorageVolGetInfoFlags(v, uint32(rpc.StorageVolGetPhysical))
		return physical, err
	})
}

// refresh has libvirt look which files there are. It refuses while it is busy with
// the pool; then it knows soon enough.
func (p pool) refresh(ctx context.Context) error {
	err := do(ctx, p.driver.conn, func(l *rpc.Libvirt) error { return l.StoragePoolRefresh(p.StoragePool, 0) })
	if code(err) == rpc.ErrInternalError || code(err) == rpc.ErrOperationInvalid {
		p.driver.log.InfoContext(ctx, "pool not refreshed", "pool", p.Name, "error", err)
		return nil
	}
	return err
}

// removeVolumes deletes the machine's volumes: first what says that its disk was
// used, so that an interrupted removal leaves no used domain without its disk.
func (p pool) removeVolumes(ctx context.Context, project, machine string) error {
	if err := p.refresh(ctx); err != nil {
		return err
	}
	all, err := p.volumes(ctx)
	if err != nil {
		return err
	}
	for _, serial := range []bool{true, false} {
		for _, v := range all {
			if !isVolumeOf(project, machine, v.Name) || isSerial(v.Name) != serial {
				continue
			}
			if err := p.remove(ctx, v); err != nil {
				return fmt.Errorf("volume %s: %w", v.Name, err)
			}
		}
	}
	return nil
}

func isSerial(volume string) bool {
	m := volumePattern.FindStringSubmatch(volume)
	return m != nil && strings.HasPrefix(m[3], serialVolume)
}

// sweep deletes the shared volumes that no domain uses. One that somebody is
// uploading, or was just about to use, he uploads again.
func (p pool) sweep(ctx context.Context) error {
	all, err := p.volumes(ctx)
	if err != nil {
		return err
	}
	shared := map[string]rpc.StorageVol{}
	for _, v := range all {
		if strings.HasPrefix(v.Name, basePrefix) || strings.HasPrefix(v.Name, firmwarePrefix) {
			shared[v.Name] = v
		}
	}
	if len(shared) == 0 {
		return nil
	}
	for _, v := range all {
		if !strings.HasPrefix(v.Name, prefix) || !strings.HasSuffix(v.Name, "."+diskVolume) {
			continue
		}
		d, err := p.describe(ctx, v)
		if err != nil {
			return err
		}
		delete(shared, path.Base(d.backing()))
	}
	records, err := p.driver.records(ctx, "")
	if err != nil {
		return err
	}
	for _, r := range records {
		delete(shared, r.BaseVolume)
		delete(shared, r.FirmwareVolume)
	}
	for _, v := range shared {
		if err := p.remove(ctx, v); err != nil && code(err) != rpc.ErrOperationInvalid {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return nil
}
