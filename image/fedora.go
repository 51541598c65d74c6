package image

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/coreos/stream-metadata-go/stream"

	"github.com/hostctl/hostctl/internal/hint"
)

// FedoraCoreOS is the layout of the Fedora CoreOS builds: a JSON file per
// stream names the newest release's files, digests and signatures.
type FedoraCoreOS struct {
	Platform string // "qemu"
	Format   string // "qcow2.xz"
	Builds   string // folder of one build: format with stream, version and architecture
}

var _ Publisher = FedoraCoreOS{}

// MAJOR.DATE.STREAM.REVISION
var fedoraVersion = regexp.MustCompile(`^[0-9]+\.[0-9]{8}\.[0-9]+\.[0-9]+$`)

func (p FedoraCoreOS) release(ctx context.Context, get getter, track Track, arch, version string) (*release, error) {
	if version != "" && !fedoraVersion.MatchString(version) {
		return nil, hint.Wrap(fmt.Errorf("%w: fedora-coreos version %q", ErrUnknown, version),
			"versions look like 44.20260707.3.1")
	}
	b, err := get(ctx, track.URL)
	if err != nil {
		return nil, err
	}
	newest, err := p.parseStream(b, arch)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", track.URL, err)
	}
	if version == "" || version == newest.version {
		return newest, nil
	}
	// The stream describes its newest release only. An older one has its
	// signature, which proves more than a digest would.
	url := fmt.Sprintf(p.Builds, track.Name, version, arch) +
		fmt.Sprintf("fedora-coreos-%s-%s.%s.%s", version, p.Platform, arch, p.Format)
	return &release{version: version, disk: artifact{url: url, signature: url + ".sig"}}, nil
}

// parseStream finds the newest release in a stream's JSON.
func (p FedoraCoreOS) parseStream(b []byte, arch string) (*release, error) {
	var s stream.Stream
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, err
	}
	files, ok := s.Architectures[arch].Artifacts[p.Platform]
	disk := files.Formats[p.Format].Disk
	if !ok || disk == nil {
		return nil, fmt.Errorf("it has no %s image for %s as %s", p.Platform, arch, p.Format)
	}
	if !fedoraVersion.MatchString(files.Release) {
		return nil, fmt.Errorf("release is %q, not a version", files.Release)
	}
	r := &release{version: files.Release, disk: artifact{url: disk.Location, signature: disk.Signature}}
	for _, url := range []string{disk.Location, disk.Signature} {
		if !strings.HasPrefix(url, "https://") {
			return nil, fmt.Errorf("location %q is no https URL", url)
		}
	}
	var err error
	if r.disk.checksum, err = ParseChecksum("sha256:" + disk.Sha256); err != nil {
		return nil, err
	}
	if disk.UncompressedSha256 != "" {
		if r.disk.unpacked, err = ParseChecksum("sha256:" + disk.UncompressedSha256); err != nil {
			return nil, err
		}
	}
	return r, nil
}
