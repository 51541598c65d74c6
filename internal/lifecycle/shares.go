package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/mirror"
)

// shareSpecs are the machine's shares as the state records them.
func shareSpecs(m *machinefile.Machine) []project.ShareSpec {
	var out []project.ShareSpec
	for _, s := range m.Shares {
		out = append(out, project.ShareSpec{
			Name: s.Name, Type: string(s.Type), Host: s.Host, Guest: s.Guest, ReadOnly: s.ReadOnly,
			Server: string(s.Server), Options: s.MountOptions, Events: s.Events,
			Direction: string(s.Direction), Ignore: s.Ignore,
		})
	}
	return out
}

// shareTexts are a share before and after in a list of changes. Of one that stays
// they have what differs: whole ones are longer than a line.
func shareTexts(before, after []project.ShareSpec, name string) (from, to string) {
	was, is := shareCalled(before, name), shareCalled(after, name)
	if was == nil || is == nil || was.Type != is.Type {
		return shareText(was), shareText(is)
	}
	var old, now []string
	for _, v := range []struct{ attribute, was, is string }{
		{"host", was.Host, is.Host},
		{"guest", was.Guest, is.Guest},
		{"readonly", fmt.Sprint(was.ReadOnly), fmt.Sprint(is.ReadOnly)},
		{"server", was.Server, is.Server},
		{"mount_options", strings.Join(was.Options, ","), strings.Join(is.Options, ",")},
		{"events", fmt.Sprint(was.Events), fmt.Sprint(is.Events)},
		{"direction", was.Direction, is.Direction},
		{"ignore", strings.Join(was.Ignore, " "), strings.Join(is.Ignore, " ")},
	} {
		if v.was != v.is {
			old, now = append(old, v.attribute+" "+orUnset(v.was)), append(now, v.attribute+" "+orUnset(v.is))
		}
	}
	return strings.Join(old, ", "), strings.Join(now, ", ")
}

// shareCalled is nil where there is no share of that name.
func shareCalled(shares []project.ShareSpec, name string) *project.ShareSpec {
	for _, s := range shares {
		if s.Name == name {
			return &s
		}
	}
	return nil
}

// shareText is a share that comes or goes; "" for nil.
func shareText(s *project.ShareSpec) string {
	if s == nil {
		return ""
	}
	words := []string{fmt.Sprintf("%s of %s at %s", s.Type, s.Host, s.Guest)}
	if s.ReadOnly {
		words = append(words, "read-only")
	}
	if s.Server == string(machinefile.SystemServer) {
		words = append(words, "by the system's server")
	}
	if s.Direction == string(machinefile.Both) {
		words = append(words, "both ways")
	}
	if len(s.Options) > 0 {
		words = append(words, "with "+strings.Join(s.Options, ","))
	}
	if s.Type == string(machinefile.NFS) && !s.Events {
		words = append(words, "without events")
	}
	if len(s.Ignore) > 0 {
		words = append(words, "but "+strings.Join(s.Ignore, " "))
	}
	return strings.Join(words, ", ")
}

// checkShares refuses shares whose folder is missing, or that the guest would
// have no way to: all of them at once.
func (b *boot) checkShares(ctx context.Context) error {
	b.lookAtFolders()
	var refused []*ConfigError
	for i := range b.machine.Shares {
		err := b.checkShare(ctx, &b.machine.Shares[i])
		e, ok := errors.AsType[*ConfigError](err)
		switch {
		case ok:
			refused = append(refused, e)
		case err != nil:
			return err
		}
	}
	return together(refused)
}

func (b *boot) checkShare(ctx context.Context, s *machinefile.Share) error {
	if err := b.checkFolder(ctx, s); err != nil {
		return err
	}
	if s.Type != machinefile.NFS {
		return nil
	}
	if s.Server == machinefile.SystemServer {
		if err := b.checkExports(ctx, s); err != nil {
			return err
		}
	}
	if err := b.checkReach(); err != nil {
		return b.refuseShare(s, "guest", "The guest does not reach this computer", err,
			`an NFS share needs NAT or a host-only network, and guests that run here; use type = "sftp", which needs neither`)
	}
	return nil
}

// lookAtFolders begins to look at the folders of all shares of the machine: those
// that hang are then waited for together.
func (b *boot) lookAtFolders() {
	for _, s := range b.machine.Shares {
		b.engine.Folders.Begin(s.Host)
	}
}

func (b *boot) checkFolder(ctx context.Context, s *machinefile.Share) error {
	err := b.engine.Folders.At(ctx, s.Host)
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist) && s.Create && !b.gone(s): // made under the lock
		return nil
	case ctx.Err() != nil:
		return err
	case errors.Is(err, folder.ErrSilent):
		return b.refuseSilent(s, err)
	case errors.Is(err, fs.ErrNotExist) && b.gone(s):
		return b.refuseShare(s, "host", "Folder is gone", err, mirror.AdviceForGone)
	case errors.Is(err, fs.ErrNotExist):
		return b.refuseShare(s, "host", "Folder is missing", err, "make it, or have it made with create = true")
	case errors.Is(err, folder.ErrNotFolder):
		return b.refuseShare(s, "host", "Folder is a file", err, "share the folder that it is in")
	}
	return b.refuseShare(s, "host", "Folder cannot be shared", err, "choose another, or have it opened to you")
}

// gone reports whether the share's folder, which is not there, had been mirrored.
func (b *boot) gone(s *machinefile.Share) bool {
	return !b.replace && b.plan.State != NotCreated && MirroredBefore(b.engine.Project, b.name, b.state, s)
}

// MirroredBefore reports whether the folder of a share of type "sftp" has been mirrored
// into the machine, with something in it. When it is not there any more, then rather
// since a disk is not mounted: making it anew would fill the place where that belongs.
func MirroredBefore(p *project.Project, machine string, ms project.MachineState, s *machinefile.Share) bool {
	told := shareCalled(ms.Mounted, s.Name)
	return s.Type == machinefile.SFTP && told != nil && told.Mirrored() && told.Host == s.Host && mirror.Known(p.MirrorFile(machine, s.Name))
}

// refuseSilent refuses a share whose folder hangs: programs in the guest would, too.
func (b *boot) refuseSilent(s *machinefile.Share, err error) error {
	return b.refuseShare(s, "host", fmt.Sprintf("The folder of share %q does not answer", s.Name), err, hint.Of(err)+", or take the share out of the machine file")
}

// foldersThere reports whether this computer has the folders of the machine's
// shares. One that was taken away from a running guest is for the checks to
// tell, or for prepareShares to make.
func (b *boot) foldersThere(ctx context.Context) bool {
	return !slices.ContainsFunc(b.machine.Shares, func(s machinefile.Share) bool {
		return b.engine.Folders.At(ctx, s.Host) != nil
	})
}

// checkReach says why guests of the machine's provider do not reach this host.
func (b *boot) checkReach() error {
	p, err := b.engine.Provider(b.providerName())
	if err != nil {
		return err
	}
	host, ok := provider.As[provider.HostAddresser](p)
	if !ok {
		return fmt.Errorf("guests of the provider %q do not reach this computer", b.providerName())
	}
	if err := host.CheckHostAddress(); err != nil {
		return err
	}
	onHostOnly := slices.ContainsFunc(b.machine.Networks, func(at machinefile.Attachment) bool { return at.Network.Kind == machinefile.HostOnly })
	if !b.machine.NAT && !onHostOnly {
		return errors.New("the machine is on no network that this computer is on, too")
	}
	return nil
}

// refuseShare points at a value of the share's block.
func (b *boot) refuseShare(s *machinefile.Share, field, summary string, err error, advice string) error {
	e := refusal(summary, err, advice, s.RangeOf(field))
	e.Err = fmt.Errorf("share %q: %w", s.Name, err)
	return e
}

// prepareShares makes the folders that the file wants made, and the secret that
// the agent's server needs. Nothing of it is made twice.
func (b *boot) prepareShares(ctx context.Context) (string, error) {
	b.lookAtFolders()
	var made []string
	for i := range b.machine.Shares {
		s := &b.machine.Shares[i]
		err := b.engine.Folders.At(ctx, s.Host)
		there := !errors.Is(err, fs.ErrNotExist)
		if !there && s.Create && !b.gone(s) {
			err = b.engine.Folders.Make(ctx, s.Host)
		}
		switch {
		case errors.Is(err, folder.ErrSilent):
			return "", b.refuseSilent(s, err)
		case there || !s.Create || b.gone(s):
			continue // one that went away since the checks is the agent's to tell
		case err != nil:
			return "", fmt.Errorf("share %q: %w", s.Name, err)
		}
		made = append(made, s.Host)
	}
	if len(b.state.Served()) > 0 {
		if _, err := b.engine.Project.ShareKey(); err != nil {
			return "", err
		}
	}
	if len(made) == 0 {
		return "", nil
	}
	return "made " + strings.Join(made, ", "), nil
}

// shared reports whether the machine has shares, or its guest had some.
func (b *boot) shared() bool { return len(b.state.Spec.Shares) > 0 || len(b.state.Mounted) > 0 }
