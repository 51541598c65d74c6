package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/run"
	"github.com/hostctl/hostctl/provider"
)

// diskInfo is what qemu-img info says.
type diskInfo struct {
	VirtualSize    uint64 `json:"virtual-size"`
	Backing        string `json:"backing-filename"`
	FormatSpecific struct {
		Data struct {
			DataFile string `json:"data-file"`
		} `json:"data"`
	} `json:"format-specific"`
}

// createOverlay makes the domain's copy-on-write disk, or keeps the one there
// is and grows it. An overlay appears under its name only when it is whole.
func (p *Provider) createOverlay(ctx context.Context, dir domainDir, d provider.Disk) error {
	base, err := p.baseInfo(ctx, d)
	if err != nil {
		return err
	}
	if d.Size != 0 && d.Size < base.VirtualSize {
		return &provider.FieldError{
			Field:  "disk",
			Err:    fmt.Errorf("%d bytes are less than the image's %d", d.Size, base.VirtualSize),
			Advice: fmt.Sprintf("ask for at least %d MiB, or leave disk out", (base.VirtualSize+1<<20-1)>>20),
		}
	}
	disk := dir.path(diskFile)
	if _, err := os.Stat(disk); err == nil {
		return p.keepOverlay(ctx, disk, d)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	unfinished := disk + ".new"
	argv := []string{"create", "-q", "-f", "qcow2", "-b", d.Base, "-F", d.BaseFormat, unfinished}
	if d.Size != 0 {
		argv = append(argv, strconv.FormatUint(d.Size, 10))
	}
	if err := p.qemuImg(ctx, nil, argv...); err != nil {
		return errors.Join(err, removeIfThere(unfinished))
	}
	if err := finish(unfinished, disk); err != nil {
		return errors.Join(err, removeIfThere(unfinished))
	}
	return nil
}

// keepOverlay makes sure that an overlay belongs to the image and is large
// enough. The domain is stopped.
func (p *Provider) keepOverlay(ctx context.Context, disk string, d provider.Disk) error {
	var have diskInfo
	if err := p.qemuImg(ctx, &have, "info", "--output=json", "-f", "qcow2", disk); err != nil {
		return err
	}
	if have.Backing != d.Base {
		return &provider.FieldError{
			Field:  "image",
			Err:    fmt.Errorf("the machine's disk was made from %s, not %s", have.Backing, d.Base),
			Advice: "a machine keeps its image: destroy it and bring it up anew, or go back to the former image",
		}
	}
	switch {
	case d.Size == 0 || d.Size == have.VirtualSize:
		return nil
	case d.Size < have.VirtualSize:
		return &provider.FieldError{
			Field:  "disk",
			Err:    fmt.Errorf("the machine's disk has %d bytes and cannot shrink to %d", have.VirtualSize, d.Size),
			Advice: "a disk only grows: destroy the machine for a smaller one",
		}
	}
	return p.qemuImg(ctx, nil, "resize", "-q", "-f", "qcow2", disk, strconv.FormatUint(d.Size, 10))
}

// baseInfo looks at the base image. One that refers to further files could
// show the guest any file of the user's, so it is refused.
func (p *Provider) baseInfo(ctx context.Context, d provider.Disk) (diskInfo, error) {
	if !filepath.IsAbs(d.Base) {
		return diskInfo{}, &provider.FieldError{Field: "image", Err: fmt.Errorf("%s is not an absolute path", d.Base)}
	}
	if d.BaseFormat != "qcow2" && d.BaseFormat != "raw" {
		return diskInfo{}, &provider.FieldError{Field: "image", Err: fmt.Errorf("format %q is not qcow2 or raw", d.BaseFormat)}
	}
	if _, err := os.Stat(d.Base); err != nil {
		return diskInfo{}, &provider.FieldError{Field: "image", Err: err}
	}
	var info diskInfo
	if err := p.qemuImg(ctx, &info, "info", "--output=json", "-f", d.BaseFormat, d.Base); err != nil {
		if ctx.Err() != nil || run.IsMissing(err) {
			return diskInfo{}, err
		}
		return diskInfo{}, &provider.FieldError{Field: "image", Err: err}
	}
	for _, other := range []string{info.Backing, info.FormatSpecific.Data.DataFile} {
		if other != "" {
			return diskInfo{}, &provider.FieldError{Field: "image", Err: fmt.Errorf("%s refers to another file: %s", d.Base, other)}
		}
	}
	return info, nil
}

// qemuImg runs qemu-img and, unless result is nil, decodes its JSON.
func (p *Provider) qemuImg(ctx context.Context, result any, args ...string) error {
	bin, err := p.program("qemu-img", runtime.GOARCH)
	if err != nil {
		return err
	}
	out, err := p.cfg.Runner.Run(ctx, append([]string{bin}, args...)...)
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(out, result); err != nil {
		return fmt.Errorf("qemu-img %s: %w", args[0], err)
	}
	return nil
}

// createVars gives the domain its own copy of the firmware's variables.
func (p *Provider) createVars(dir domainDir, d provider.Domain) error {
	fw, err := p.firmware(d)
	if err != nil || fw == nil {
		return err
	}
	vars := dir.path(varsFile)
	if _, err := os.Stat(vars); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	in, err := os.Open(fw.Vars)
	if err != nil {
		return err
	}
	defer in.Close()
	unfinished := vars + ".new"
	out, err := os.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, removeIfThere(unfinished))
	}
	return finish(unfinished, vars)
}

// firmware returns what the guest boots by, nil for QEMU's own BIOS.
func (p *Provider) firmware(d provider.Domain) (*provider.Firmware, error) {
	if d.Disk.Firmware != nil || d.Arch != "arm64" {
		return d.Disk.Firmware, nil
	}
	places := edk2Places
	if bin, err := p.cfg.LookPath(emulator("arm64")); err == nil {
		share := filepath.Join(filepath.Dir(filepath.Dir(bin)), "share", "qemu")
		places = append([][2]string{
			{filepath.Join(share, "edk2-aarch64-code.fd"), filepath.Join(share, "edk2-arm-vars.fd")},
			{filepath.Join(filepath.Dir(bin), "share", "edk2-aarch64-code.fd"), filepath.Join(filepath.Dir(bin), "share", "edk2-arm-vars.fd")},
		}, places...)
	}
	for _, f := range places {
		if isFile(f[0]) && isFile(f[1]) {
			return &provider.Firmware{Code: f[0], Vars: f[1], Format: "raw"}, nil
		}
	}
	return nil, hint.Wrap(errors.New("no UEFI firmware for arm64 guests on this host"), "%s", installHint(runtime.GOOS, runtime.GOARCH, "arm64"))
}

// edk2Places is where distributions keep edk2 for arm64, code and variables.
// Homebrew and the Windows installer keep it beside QEMU.
var edk2Places = [][2]string{
	{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},                                // Debian, Ubuntu: qemu-efi-aarch64
	{"/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"}, // Fedora: edk2-aarch64
	{"/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"},                    // Arch: edk2-aarch64
	{"/usr/share/qemu/aavmf-aarch64-code.bin", "/usr/share/qemu/aavmf-aarch64-vars.bin"},                // openSUSE: qemu-uefi-aarch64
	{"/opt/homebrew/share/qemu/edk2-aarch64-code.fd", "/opt/homebrew/share/qemu/edk2-arm-vars.fd"},      // Homebrew
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// finish makes a file that is whole appear under its name.
func finish(unfinished, name string) error {
	f, err := os.OpenFile(unfinished, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = errors.Join(f.Chmod(0o600), f.Sync())
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(unfinished, name)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
