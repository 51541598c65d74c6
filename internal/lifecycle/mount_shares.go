package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/nfs"
)

// mountTimeout bounds what is done in the guest about shares. systemd waits for
// a mount for half a minute.
const mountTimeout = 5 * time.Minute

// Mirrors keeps copies of host folders in guests: shares of type "sftp".
type Mirrors interface {
	// Mirror makes the machine's guest have exactly these, once; nothing is
	// copied that is there. The agent keeps them alike from then on.
	Mirror(ctx context.Context, machine string, t sshclient.Target, shares []project.ShareSpec, progress func(string)) error
}

// mounts are what the guest mounts of the machine's shares.
func (b *boot) mounts(ctx context.Context) ([]cloudconfig.Mount, error) {
	var out []cloudconfig.Mount
	var at provider.HostAddress // once for all of them
	for _, s := range b.state.Spec.Shares {
		if s.Type != string(machinefile.NFS) {
			continue
		}
		var err error
		if len(out) == 0 {
			at, err = hostAddress(ctx, b.provider, b.name)
		}
		var m cloudconfig.Mount
		if err == nil {
			m, err = b.mount(at, s)
		}
		if err != nil {
			return nil, fmt.Errorf("share %q: %w", s.Name, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// hostAddress is where the machine's guest reaches this computer.
func hostAddress(ctx context.Context, p provider.Provider, name string) (provider.HostAddress, error) {
	host, ok := provider.As[provider.HostAddresser](p)
	if !ok {
		return provider.HostAddress{}, errors.New("the guest does not reach this computer")
	}
	return host.HostAddress(ctx, name)
}

func (b *boot) mount(at provider.HostAddress, s project.ShareSpec) (cloudconfig.Mount, error) {
	// A guest's kernel that mounts read-only refuses what tells programs in the
	// guest of changes; the server keeps the share read-only all the same.
	readOnly := s.ReadOnly && (!s.Embedded() || !s.Events)
	m := cloudconfig.Mount{
		Share: s.Name, Where: cloudconfig.GuestPath(s.Guest, b.state.Image.Guest), Server: at.Guest,
		ReadOnly: readOnly, Embedded: s.Embedded(), Options: s.Options,
	}
	if !m.Embedded {
		err := b.mountExported(&m, s)
		return m, err
	}
	key, err := b.engine.Project.ShareKey()
	if err != nil {
		return m, err
	}
	ports, err := b.engine.Project.SharePorts()
	if err != nil {
		return m, err
	}
	m.Path, m.Port = nfs.Path(key, s.Export(b.state.Image.Guest.UserID())), ports[at.Listen]
	if m.Port == 0 {
		err = errors.New("the agent does not serve it yet")
	}
	return m, err
}

// mountsScript has the guest mount its shares. The sum stands for it.
func (b *boot) mountsScript(ctx context.Context) (script, sum string, err error) {
	mounts, err := b.mounts(ctx)
	if err != nil {
		return "", "", err
	}
	script = cloudconfig.MountsScript(mounts, b.state.Image.Guest.User)
	hash := sha256.Sum256([]byte(script))
	return script, hex.EncodeToString(hash[:8]), nil
}

// mountsTold reports whether the guest was told of its shares as they are now:
// where they are served, and how they are mounted.
func (b *boot) mountsTold(ctx context.Context) bool {
	if !b.shared() {
		return true
	}
	_, sum, err := b.mountsScript(ctx)
	return err == nil && sum == b.state.MountsSum
}

// mountShares makes the guest have its shares: it mounts those of the file,
// unmounts the others, and copies what is mirrored. Where all is so, it changes
// nothing.
func (b *boot) mountShares(ctx context.Context) (string, error) {
	target, err := Target(b.engine.Project, b.name, b.state)
	if err != nil {
		return "", err
	}
	if err := b.exportFolders(ctx); err != nil {
		return "", err
	}
	script, sum, err := b.mountsScript(ctx)
	if err != nil {
		return "", err
	}
	if served := slices.DeleteFunc(slices.Clone(b.state.Spec.Shares), project.ShareSpec.Mirrored); len(served) > 0 {
		b.progress("mounting %s", sharesText(served))
	}
	if err := b.tellMounts(ctx, target, script); err != nil {
		return "", err
	}
	if folders := mountedAnew(b.state.Mounted, b.state.Spec.Shares); len(folders) > 0 {
		b.notice("containers that run with %s have it as it was mounted before, and may find it stale: docker restart them", strings.Join(folders, ", "))
	}
	before, exported := b.state.Served(), b.exported()
	noted, err := b.engine.note(ctx, b.name, b.state.DomainID, func(ms *project.MachineState) {
		ms.Mounted, ms.MountsSum = ms.Spec.Shares, sum
		ms.SharesLeft = ms.SharesLeft || len(ms.Served()) < len(before)
	})
	if err != nil {
		return "", err
	}
	b.state = noted
	if len(b.state.Served()) < len(before) {
		// What the guest has given up is not to be served any longer.
		if err := b.engine.agent().Sync(ctx, b.name); err != nil {
			return "", err
		}
	}
	if exported {
		if err := b.engine.exportFolders(ctx, b.name); err != nil {
			return "", err
		}
	}
	return sharesText(b.state.Spec.Shares), b.mirror(ctx, target)
}

// mountedAnew are the folders of the guest at which something else is mounted than
// before, or in another way. What containers have of such a folder stays.
func mountedAnew(before, now []project.ShareSpec) []string {
	var folders []string
	for _, is := range now {
		if slices.ContainsFunc(before, func(was project.ShareSpec) bool {
			return was.Guest == is.Guest && !was.Mirrored() && (was.Type != is.Type || was.Host != is.Host || was.ReadOnly != is.ReadOnly ||
				was.Server != is.Server || !slices.Equal(was.Options, is.Options))
		}) {
			folders = append(folders, is.Guest)
		}
	}
	return folders
}

func (b *boot) tellMounts(ctx context.Context, target sshclient.Target, script string) error {
	bounded, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	err := b.engine.tell(bounded, target, cloudconfig.MountsCommand, script)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return hint.Wrap(fmt.Errorf("mount in the guest: %w", err),
		"hostctl ssh %s -c 'systemctl status \"*.mount\"' shows more; a firewall of this computer may keep guests from it", b.name)
}

func sharesText(shares []project.ShareSpec) string {
	if len(shares) == 0 {
		return "none"
	}
	names := make([]string, len(shares))
	for i, s := range shares {
		names[i] = s.Guest
	}
	return strings.Join(names, ", ")
}

// mirror copies the shares that are not mounted.
func (b *boot) mirror(ctx context.Context, target sshclient.Target) error {
	var shares []project.ShareSpec
	for _, s := range b.state.Spec.Shares {
		if s.Type == string(machinefile.SFTP) {
			shares = append(shares, s)
		}
	}
	if len(shares) == 0 || b.engine.Mirrors == nil {
		return nil
	}
	return b.engine.Mirrors.Mirror(ctx, b.name, target, shares, func(text string) { b.progress("%s", text) })
}
