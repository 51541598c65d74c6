package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"unicode"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/exports"
)

// SystemExports is this host's own NFS server: shares with server = "system".
type SystemExports interface {
	// Running fails, with a hint, when the server is not there or serves nobody.
	Running(ctx context.Context) error
	// Ensure has the server export these of the project's folders, and no other;
	// without any, nothing of the project's is left in its files. Folders that are
	// not there are left out.
	Ensure(ctx context.Context, folders []SystemExport) error
	// Path is the name under which guests mount a folder.
	Path(folder string) (string, error)
}

// SystemExport is a folder and who may mount it. A folder can be there twice, with
// those who may write and those who may not.
type SystemExport struct {
	Folder   string
	ReadOnly bool
	Clients  []netip.Prefix
}

// errNoSystemExports is for programs that are built without.
var errNoSystemExports = errors.New(`server = "system" is not available here`)

// mountExported completes how the guest mounts what the host's own server exports.
func (b *boot) mountExported(m *cloudconfig.Mount, s project.ShareSpec) error {
	if b.engine.Exports == nil {
		return errNoSystemExports
	}
	m.Port = exports.Port
	if runtime.GOOS == "darwin" && !slices.ContainsFunc(m.Options, isVersion) {
		// nfsd has no NFSv4, and locks over the host's rpcbind do not get back to
		// guests behind NAT.
		m.Options = append([]string{"vers=3", "mountproto=tcp", "nolock"}, m.Options...)
	}
	var err error
	m.Path, err = b.engine.Exports.Path(s.Host)
	if err == nil && (strings.ContainsFunc(m.Path, unicode.IsControl) || strings.HasSuffix(m.Path, `\`) || strings.HasSuffix(m.Path, " ")) {
		// The guest's systemd would read another path, or more than a path.
		err = hint.Wrap(fmt.Errorf("%q cannot be mounted: it has a control character, or ends with a space or a backslash", m.Path),
			`take server = "embedded", which serves any folder`)
	}
	return err
}

func isVersion(option string) bool {
	name, _, _ := strings.Cut(option, "=")
	return name == "vers" || name == "nfsvers"
}

// exported reports whether the host's own server serves, or has served, the machine.
func (b *boot) exported() bool { return len(exportedShares(b.state)) > 0 }

// exportedShares are those that the host's own server has to serve: of the file, and
// what the guest has mounted still.
func exportedShares(ms project.MachineState) []project.ShareSpec {
	return systemShares(slices.Concat(ms.Spec.Shares, ms.Mounted))
}

// systemShares are those of shares that this host's own server has.
func systemShares(shares []project.ShareSpec) []project.ShareSpec {
	return slices.DeleteFunc(slices.Clone(shares), func(s project.ShareSpec) bool {
		return s.Server != string(machinefile.SystemServer)
	})
}

// checkExports refuses a share of the host's own server when there is none.
func (b *boot) checkExports(ctx context.Context, s *machinefile.Share) error {
	err := errNoSystemExports
	if b.engine.Exports != nil {
		err = b.engine.Exports.Running(ctx)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	return b.refuseShare(s, "server", "No NFS server to share it by", err, cmp.Or(hint.Of(err), `take server = "embedded"`))
}

// exportFolders has this host's own NFS server export what all machines of the
// project want of it.
func (b *boot) exportFolders(ctx context.Context) error {
	if !b.exported() || b.engine.Exports == nil {
		return nil
	}
	return b.engine.exportFolders(ctx, b.name)
}

// exportFolders follows the state. Machines call it one at a time. A folder that
// hangs is not exported until it answers and its machine is brought up again, which is
// an error of that machine and no other's.
func (e *Engine) exportFolders(ctx context.Context, machine string) error {
	e.exports.Lock()
	defer e.exports.Unlock()
	state, err := e.Project.Load()
	if err != nil {
		return err
	}
	var folders []SystemExport
	var refused error
	for _, ms := range state.Machines {
		for _, s := range exportedShares(ms) {
			e.Folders.Begin(s.Host)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(state.Machines)) {
		ms := state.Machines[name]
		shares := exportedShares(ms)
		if len(shares) == 0 {
			continue
		}
		client, err := e.client(ctx, name, ms)
		if errors.Is(err, provider.ErrNotFound) {
			continue // it is yet to be made, or gone
		}
		if err != nil {
			return fmt.Errorf("%s: share %q: %w", name, shares[0].Name, err)
		}
		silent := map[string]error{}
		for _, s := range shares {
			// To export it takes its real name, for which it would be waited for.
			if err := e.Folders.At(ctx, s.Host); errors.Is(err, folder.ErrSilent) {
				silent[s.Host] = err
				continue
			}
			folders = addExport(folders, s, client)
		}
		// What else is mounted the guest is about to lose.
		for _, s := range systemShares(ms.Spec.Shares) {
			switch err := silent[s.Host]; {
			case err == nil:
			case name == machine:
				refused = errors.Join(refused, fmt.Errorf("%s: share %q: %w", name, s.Name, err))
			default:
				e.notice("%s: share %s is not exported: %v", name, s.Name, err)
			}
		}
	}
	return errors.Join(e.Exports.Ensure(ctx, folders), refused)
}

// client is from where the machine's guest comes to servers of this host.
func (e *Engine) client(ctx context.Context, name string, ms project.MachineState) (netip.Prefix, error) {
	addr, err := e.clientAddress(ctx, name, ms)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

func (e *Engine) clientAddress(ctx context.Context, name string, ms project.MachineState) (netip.Addr, error) {
	p, err := e.Provider(ms.Provider)
	if err != nil {
		return netip.Addr{}, err
	}
	at, err := hostAddress(ctx, p, name)
	if err != nil || at.Listen.IsLoopback() {
		return at.Listen, err // the hypervisor connects
	}
	for _, nic := range ms.NICs {
		if nic.CIDR.IsValid() && nic.CIDR.Contains(at.Listen) {
			return nic.Address, nil
		}
	}
	nat, ok := provider.As[provider.NATAddresser](p)
	if !ok {
		return netip.Addr{}, errors.New("the guest's address is not known")
	}
	return nat.NATAddress(ctx, name, ms.DomainID)
}

// addExport merges what several machines see of a folder.
func addExport(folders []SystemExport, s project.ShareSpec, client netip.Prefix) []SystemExport {
	for i, f := range folders {
		if f.Folder == s.Host && f.ReadOnly == s.ReadOnly {
			folders[i].Clients = append(f.Clients, client)
			return folders
		}
	}
	return append(folders, SystemExport{Folder: s.Host, ReadOnly: s.ReadOnly, Clients: []netip.Prefix{client}})
}
