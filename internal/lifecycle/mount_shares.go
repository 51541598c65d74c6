package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
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

// systemPort is where the host's own NFS server listens.
const systemPort = 2049

// Mirrors keeps copies of host folders in guests: shares of type "sftp".
type Mirrors interface {
	// Mirror makes the machine's guest have exactly these, once; nothing is
	// copied that is there. The agent keeps them alike from then on.
	Mirror(ctx context.Context, machine string, t sshclient.Target, shares []project.ShareSpec, progress func(string)) error
}

// SystemExports is this host's own NFS server: shares with server = "system".
type SystemExports interface {
	// Ensure has the server export these of the project's folders, and no other;
	// without any, nothing of the project's is left in its files.
	Ensure(ctx context.Context, folders []SystemExport) error
	// Path is the name under which guests mount a folder.
	Path(folder string) (string, error)
}

// SystemExport is a folder and who may mount it.
type SystemExport struct {
	Folder   string
	ReadOnly bool
	Clients  []netip.Prefix
}

// errNoSystemExports is a share by a server that this hostctl cannot use yet.
var errNoSystemExports = errors.New(`server = "system" is not available here`)

// mounts are what the guest mounts of the machine's shares.
func (b *boot) mounts(ctx context.Context) ([]cloudconfig.Mount, error) {
	var out []cloudconfig.Mount
	for _, s := range b.state.Spec.Shares {
		if s.Type != string(machinefile.NFS) {
			continue
		}
		m, err := b.mount(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("share %q: %w", s.Name, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func (b *boot) mount(ctx context.Context, s project.ShareSpec) (cloudconfig.Mount, error) {
	host, ok := provider.As[provider.HostAddresser](b.provider)
	if !ok {
		return cloudconfig.Mount{}, errors.New("the guest does not reach this computer")
	}
	at, err := host.HostAddress(ctx, b.name)
	if err != nil {
		return cloudconfig.Mount{}, err
	}
	// A guest's kernel that mounts read-only refuses what tells programs in the
	// guest of changes; the server keeps the share read-only all the same.
	readOnly := s.ReadOnly && !(s.Embedded() && s.Events)
	m := cloudconfig.Mount{
		Share: s.Name, Where: cloudconfig.GuestPath(s.Guest, b.state.Image.Guest), Server: at.Guest,
		ReadOnly: readOnly, Embedded: s.Embedded(), Options: s.Options,
	}
	if !m.Embedded {
		if b.engine.Exports == nil {
			return m, errNoSystemExports
		}
		m.Port = systemPort
		m.Path, err = b.engine.Exports.Path(s.Host)
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
	m.Path, m.Port = nfs.Path(key, s.Export()), ports[at.Listen]
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
	b.progress("mounting")
	if err := b.tellMounts(ctx, target, script); err != nil {
		return "", err
	}
	before := b.state.Served()
	noted, err := b.engine.note(ctx, b.name, b.state.DomainID, func(ms *project.MachineState) {
		ms.Mounted, ms.MountsSum = ms.Spec.Shares, sum
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
	return sharesText(b.state.Spec.Shares), b.mirror(ctx, target)
}

func (b *boot) tellMounts(ctx context.Context, target sshclient.Target, script string) error {
	bounded, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	err := b.engine.Guests.Exec(bounded, target, cloudconfig.MountsCommand, strings.NewReader(script))
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

// exportFolders has this host's own NFS server export what all machines of the
// project want of it.
func (b *boot) exportFolders(ctx context.Context) error {
	if b.engine.Exports == nil {
		return nil
	}
	return b.engine.exportFolders(ctx)
}

// exportFolders follows the state. Machines call it one at a time.
func (e *Engine) exportFolders(ctx context.Context) error {
	e.exports.Lock()
	defer e.exports.Unlock()
	state, err := e.Project.Load()
	if err != nil {
		return err
	}
	var folders []SystemExport
	for name, ms := range state.Machines {
		for _, s := range ms.Spec.Shares {
			if s.Server != string(machinefile.SystemServer) {
				continue
			}
			client, err := e.client(ctx, name, ms)
			if err != nil {
				return fmt.Errorf("%s: share %q: %w", name, s.Name, err)
			}
			folders = addExport(folders, s, client)
		}
	}
	return e.Exports.Ensure(ctx, folders)
}

// client is from where the machine's guest comes to servers of this host.
func (e *Engine) client(ctx context.Context, name string, ms project.MachineState) (netip.Prefix, error) {
	p, err := e.Provider(ms.Provider)
	if err != nil {
		return netip.Prefix{}, err
	}
	host, ok := provider.As[provider.HostAddresser](p)
	if !ok {
		return netip.Prefix{}, errors.New("the guest does not reach this computer")
	}
	at, err := host.HostAddress(ctx, name)
	if err != nil || at.Listen.IsLoopback() {
		return netip.PrefixFrom(at.Listen, 32), err // the hypervisor connects
	}
	for _, nic := range ms.NICs {
		if nic.CIDR.IsValid() && nic.CIDR.Contains(at.Listen) {
			return netip.PrefixFrom(nic.Address, 32), nil
		}
	}
	nat, ok := provider.As[provider.NATAddresser](p)
	if !ok {
		return netip.Prefix{}, errors.New("the guest's address is not known")
	}
	addr, err := nat.NATAddress(ctx, name, ms.DomainID)
	return netip.PrefixFrom(addr, 32), err
}

// addExport merges what several machines see of a folder. One that some may
// write is not read-only; those machines mount it so by themselves.
func addExport(folders []SystemExport, s project.ShareSpec, client netip.Prefix) []SystemExport {
	for i := range folders {
		if folders[i].Folder == s.Host {
			folders[i].ReadOnly = folders[i].ReadOnly && s.ReadOnly
			folders[i].Clients = append(folders[i].Clients, client)
			return folders
		}
	}
	return append(folders, SystemExport{Folder: s.Host, ReadOnly: s.ReadOnly, Clients: []netip.Prefix{client}})
}
