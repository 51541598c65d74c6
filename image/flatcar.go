package image

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/hostctl/hostctl/internal/hint"
)

// Flatcar is the layout of the Flatcar release servers:
// URL/BOARD/VERSION/FILE, each file with a signature and digests beside it
// (flatcar/scripts ci-automation/ci_automation_common.sh).
type Flatcar struct {
	Disk         string // the disk's file name
	Packed       string // suffix of the disk where there is only a compressed one
	Code, Vars   string // the firmware's file names without suffix
	FirmwareArch string // the board that needs it
	QcowFirmware int    // first major version whose firmware is qcow2, not .fd
	Oldest       int    // first major version whose Ignition takes specs 3.x
	VersionFile  string // names the newest version
	Digests      string // suffix
	Signature    string // suffix
}

var _ Publisher = Flatcar{}

var flatcarVersion = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)

func (p Flatcar) release(ctx context.Context, get getter, track Track, arch, version string) (*release, error) {
	if version == "" {
		// Files are never taken from the folder "current" itself: it may
		// change between two of them.
		url := fmt.Sprintf("%s/%s/%s/%s", track.URL, arch, track.Current, p.VersionFile)
		b, err := get(ctx, url)
		if err != nil {
			return nil, err
		}
		if version, err = parseVersionFile(b); err != nil {
			return nil, fmt.Errorf("%s: %w", url, err)
		}
	}
	if !flatcarVersion.MatchString(version) {
		return nil, hint.Wrap(fmt.Errorf("%w: flatcar version %q", ErrUnknown, version),
			"versions look like 4593.2.5")
	}
	if majorOf(version) < p.Oldest {
		return nil, hint.Wrap(fmt.Errorf("%w: flatcar %s takes Ignition configs of spec 2 only", ErrUnknown, version),
			"choose version %d.0.0 or newer", p.Oldest)
	}
	base := fmt.Sprintf("%s/%s/%s/", track.URL, arch, version)
	r := &release{version: version}
	var err error
	r.disk, err = p.artifact(ctx, get, base+p.Disk)
	if isNotFound(err, "") {
		r.disk, err = p.artifact(ctx, get, base+p.Disk+p.Packed)
	}
	if err != nil {
		return nil, err
	}
	if arch == p.FirmwareArch {
		suffix := ".fd"
		if majorOf(version) >= p.QcowFirmware {
			suffix = ".qcow2"
		}
		if r.code, err = p.artifact(ctx, get, base+p.Code+suffix); err != nil {
			return nil, err
		}
		if r.vars, err = p.artifact(ctx, get, base+p.Vars+suffix); err != nil {
			return nil, err
		}
		r.code.name, r.vars.name = "efi_code"+suffix, "efi_vars"+suffix
	}
	return r, nil
}

// artifact finds the digest and the signature of the file at url.
func (p Flatcar) artifact(ctx context.Context, get getter, url string) (artifact, error) {
	digests, err := get(ctx, url+p.Digests)
	if err != nil {
		return artifact{}, err
	}
	sum, err := parseDigests(digests, url[strings.LastIndexByte(url, '/')+1:])
	if err != nil {
		return artifact{}, fmt.Errorf("%s: %w", url+p.Digests, err)
	}
	return artifact{url: url, checksum: sum, signature: url + p.Signature}, nil
}

// parseVersionFile reads FLATCAR_VERSION from KEY=VALUE lines whose values may
// be quoted (flatcar/scripts build_image writes them).
func parseVersionFile(b []byte) (string, error) {
	for line := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || key != "FLATCAR_VERSION" {
			continue
		}
		version := strings.Trim(value, `"'`)
		if !flatcarVersion.MatchString(version) {
			return "", fmt.Errorf("FLATCAR_VERSION is %q, not a version", value)
		}
		return version, nil
	}
	return "", errors.New("no FLATCAR_VERSION in it")
}

// parseDigests reads the SHA-512 of the named file from sections that begin
// with "# SHA512 HASH". Sections with other hashes are none of our business:
// MD5 and SHA-1 prove nothing, and BLAKE2 is announced.
func parseDigests(b []byte, name string) (Checksum, error) {
	wanted := false
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if section, ok := strings.CutPrefix(line, "#"); ok {
			wanted = strings.TrimSpace(section) == "SHA512 HASH"
			continue
		}
		digits, file, ok := strings.Cut(line, " ")
		if !wanted || !ok || strings.TrimPrefix(strings.TrimSpace(file), "*") != name {
			continue
		}
		return ParseChecksum("sha512:" + digits)
	}
	return Checksum{}, fmt.Errorf("no SHA512 of %s in it", name)
}
