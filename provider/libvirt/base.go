package libvirt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hostctl/hostctl/internal/qcow2"
	"github.com/hostctl/hostctl/provider"
)

// base is what an overlay lies on, or a firmware's code, as libvirt's host sees it.
type base struct {
	path   string
	volume string // its name, "" for a file of this host's
}

// ensureBase makes the image readable for libvirt's QEMU: as it is where that can be,
// and else by a copy in the pool, which all domains share.
func (d *driver) ensureBase(ctx context.Context, p pool, file, namePrefix string) (base, error) {
	if d.target.local() {
		direct, err := d.reads(ctx, file)
		if err != nil {
			return base{}, err
		}
		if direct {
			return base{path: file}, nil
		}
	}
	name, err := sharedName(namePrefix, file)
	if err != nil {
		return base{}, err
	}
	// Machines of one project start together.
	release, err := d.acquire(ctx, "volume "+name)
	if err != nil {
		return base{}, err
	}
	defer release()
	if err := p.share(ctx, name, file, uploadPatience); err != nil {
		return base{}, fmt.Errorf("upload %s to storage pool %q: %w", file, p.Name, err)
	}
	return base{path: p.path(name), volume: name}, nil
}

// sharedName names the copy of a file. Files of the image cache never change; one
// that was replaced has another time or size.
func sharedName(namePrefix, file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d", file, info.Size(), info.ModTime().UnixNano()))
	return namePrefix + hex.EncodeToString(sum[:8]), nil
}

// reads reports whether libvirt's QEMU can read a file of this host's. Where
// something else than file permissions guards QEMU (AppArmor, SELinux) it is not
// tried.
func (d *driver) reads(ctx context.Context, file string) (bool, error) {
	caps, err := d.capabilities(ctx)
	if err != nil {
		return false, err
	}
	if d.target.session {
		return true, nil
	}
	uid, gid, ok := caps.qemuUser()
	if !ok {
		return false, nil
	}
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false, err
	}
	if uid == 0 {
		return true, nil
	}
	for path := real; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		var want fs.FileMode = 0o1 // search
		if path == real {
			want = 0o4
		}
		if !permits(info, uid, gid, want) {
			return false, nil
		}
		if path == filepath.Dir(path) {
			return true, nil
		}
	}
}

// baseInfo is what the provider has to know of a base image.
type baseInfo struct {
	size uint64 // of the disk in it
}

// inspectBase reads the image's header. An image that refers to further files could
// show the guest any file of libvirt's host, so it is refused.
func inspectBase(d provider.Disk) (baseInfo, error) {
	reject := func(format string, args ...any) (baseInfo, error) {
		return baseInfo{}, &provider.FieldError{Field: "image", Err: fmt.Errorf(format, args...)}
	}
	if !filepath.IsAbs(d.Base) {
		return reject("%s is not an absolute path", d.Base)
	}
	f, err := os.Open(d.Base)
	if err != nil {
		return reject("%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return baseInfo{}, err
	}
	switch d.BaseFormat {
	case "raw":
		return baseInfo{size: uint64(info.Size())}, nil
	case "qcow2":
	default:
		return reject("format %q is not qcow2 or raw", d.BaseFormat)
	}
	head, err := io.ReadAll(io.LimitReader(f, qcow2.MaxHeader))
	if err != nil {
		return baseInfo{}, err
	}
	disk, err := qcow2.Parse(head)
	if err != nil {
		return reject("%s: %w", d.Base, err)
	}
	return baseInfo{size: disk.Size}, nil
}
