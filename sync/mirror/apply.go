package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/sshclient"
)

// apply does what was planned: what lost a conflict goes aside before the
// winner takes its place, what is gone makes room for what is new, and
// directories get their permissions when all is in them.
func (r *run) apply(p *plan) error {
	by := map[verb][2][]*action{}
	for _, a := range p.actions {
		lists := by[a.verb]
		lists[a.on] = append(lists[a.on], a)
		by[a.verb] = lists
		if a.verb == put && a.want.kind == file {
			r.totalFiles.Add(1)
			r.totalBytes.Add(a.want.size)
		}
	}
	if len(p.actions) == 0 {
		return nil
	}
	r.progress()
	stop := context.AfterFunc(r.ctx, r.guest.end) // wakes whoever waits for the guest
	defer stop()
	for _, on := range []side{onHost, onGuest} {
		for _, a := range by[aside][on] {
			if err := r.over(a, r.aside(a)); err != nil {
				return err
			}
		}
	}
	for _, on := range []side{onHost, onGuest} {
		if err := r.removeAll(by[remove][on]); err != nil {
			return err
		}
	}
	if err := r.send(by[put][onGuest]); err != nil {
		return err
	}
	if err := r.fetch(by[put][onHost]); err != nil {
		return err
	}
	for _, on := range []side{onHost, onGuest} {
		if err := r.each(by[chmod][on], r.chmod); err != nil {
			return err
		}
	}
	return nil
}

// each works on many actions at once, each of which waits for the guest.
func (r *run) each(actions []*action, do func(a *action) error) error {
	var work errgroup.Group
	work.SetLimit(paths)
	for _, a := range actions {
		work.Go(func() error {
			if err := context.Cause(r.ctx); err != nil {
				return err
			}
			return r.over(a, do(a))
		})
	}
	return work.Wait()
}

// over takes what an action came to.
func (r *run) over(a *action, err error) error { return r.fault(a.path, err) }

// fault notes what concerns a path alone, so that the others go on, and returns
// the rest.
func (r *run) fault(p string, err error) error {
	switch {
	case err == nil:
		return nil
	case r.ctx.Err() != nil:
		return context.Cause(r.ctx)
	case sshclient.Lost(err):
		return fmt.Errorf("%w while %s was being mirrored", sshclient.ErrLost, p)
	case errors.Is(err, syscall.ENOSPC):
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, Problem{p, r.cfg.denied(err)})
	return nil
}

// aside renames what lost a conflict.
func (r *run) aside(a *action) error {
	if a.on == onHost {
		if err := r.host.unchanged(a.path, a.has); err != nil {
			return err
		}
		if there, err := r.host.look(a.to); err != nil || there != nil {
			return errors.Join(err, errChanged)
		}
		if err := r.host.root.Rename(a.path, a.to); err != nil {
			return err
		}
		r.named(a.to)
	} else {
		client, err := r.guest.sftp()
		if err != nil {
			return err
		}
		if err := r.guest.unchanged(client, a.path, a.has); err != nil {
			return err
		}
		// Which does not replace anything, unlike PosixRename.
		if err := client.Rename(r.guest.path(a.path), r.guest.path(a.to)); err != nil {
			return sshclient.WriteFailure(client, r.guest.path(a.to), err)
		}
	}
	r.record(a)
	return nil
}

// unchanged makes sure that p is as it was listed, as far as SFTP tells.
func (g *guest) unchanged(client *sftp.Client, p string, was *entry) error {
	info, err := client.Lstat(g.path(p))
	if errors.Is(err, fs.ErrNotExist) && was == nil {
		return nil
	}
	if err != nil {
		return err
	}
	if was == nil {
		return errChanged
	}
	mode := info.Mode()
	same := false
	switch was.kind {
	case file:
		same = mode.IsRegular() && info.Size() == was.size &&
			uint32(info.ModTime().Unix()) == uint32(time.Unix(0, was.mtime).Unix()) // all that SFTP carries
	case dir:
		same = mode.IsDir()
	case symlink:
		if same = mode&fs.ModeSymlink != 0; same {
			target, err := client.ReadLink(g.path(p))
			if err != nil {
				return err
			}
			same = target == was.target
		}
	}
	if !same {
		return errChanged
	}
	return nil
}

// removeAll removes files, and then the directories that are empty: what is
// left out, or new, keeps its directory.
func (r *run) removeAll(actions []*action) error {
	var files, dirs []*action
	for _, a := range actions {
		if a.has.kind == dir {
			dirs = append(dirs, a)
		} else {
			files = append(files, a)
		}
	}
	if err := r.each(files, r.remove); err != nil {
		return err
	}
	for _, a := range slices.Backward(dirs) {
		if err := r.over(a, r.remove(a)); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) remove(a *action) error {
	var err error
	if a.on == onHost {
		if err = r.host.unchanged(a.path, a.has); err == nil {
			err = r.host.root.Remove(a.path)
		}
		switch {
		case a.has.kind == dir && notEmpty(err):
			err = nil
		case errors.Is(err, syscall.EBUSY):
			err = errMountedHere
		case errors.Is(err, syscall.EROFS):
			err = errReadOnlyHere
		}
	} else {
		client, cerr := r.guest.sftp()
		if cerr != nil {
			return cerr
		}
		full := r.guest.path(a.path)
		if a.has.kind == dir {
			err = r.guest.refusal(client, a.path, client.RemoveDirectory(full))
			if errors.Is(err, errNotEmpty) {
				err = nil
			}
		} else {
			// A run for some paths has what the guest has from the base.
			if err = r.guest.unchanged(client, a.path, a.has); err == nil {
				err = r.guest.refusal(client, a.path, client.Remove(full))
			}
			if errors.Is(err, errChanged) && !r.cfg.Both {
				r.skip(a.path, errGuestEdited)
				return nil // the base keeps it, so that who compares everything is told, too
			}
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.did(a, nil)
	return nil
}

// refusal finds out what is behind a failure to remove or rename p: SFTP has one
// code for all that it does not name. Others are returned as they are.
func (g *guest) refusal(client *sftp.Client, p string, err error) error {
	if !sshclient.Failed(err) {
		return err
	}
	full := g.path(p)
	if why := sshclient.WriteFailure(client, full, err); errors.Is(why, sshclient.ErrReadOnly) {
		return why
	}
	above, serr := client.StatVFS(path.Dir(full))
	info, lerr := client.Lstat(full)
	if lerr != nil || !info.IsDir() {
		return err
	}
	// In the order in which the guest's kernel looks.
	if here, herr := client.StatVFS(full); serr == nil && herr == nil && here.Fsid != above.Fsid {
		return errMounted
	}
	if has, rerr := client.ReadDir(full); rerr == nil && len(has) > 0 {
		return errNotEmpty
	}
	return err
}

func notEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist)
}

// chmod gives an entry the other side's permissions.
func (r *run) chmod(a *action) error {
	p := &pair{}
	if a.on == onHost {
		if err := r.host.unchanged(a.path, a.has); err != nil {
			return err
		}
		if err := r.host.root.Chmod(a.path, os.FileMode(a.want.mode)); err != nil {
			return err
		}
		now, err := r.host.look(a.path)
		if err != nil || now == nil {
			return errors.Join(err, errChanged)
		}
		p.host, p.guest = *now, *a.want
	} else {
		client, err := r.guest.sftp()
		if err != nil {
			return err
		}
		full := r.guest.path(a.path)
		if err := client.Chmod(full, os.FileMode(a.want.mode)); err != nil {
			return sshclient.WriteFailure(client, full, err)
		}
		p.host, p.guest = *a.want, *a.has
		p.guest.mode = a.want.mode
	}
	r.did(a, p)
	return nil
}

// clear makes room for an entry of another kind: what was mirrored goes, and
// what was not, or has something in it that was not, goes aside.
func (r *run) clear(a *action) error {
	if a.has == nil || a.has.kind != dir && a.want.kind != dir || a.has.kind == a.want.kind {
		return nil
	}
	ours := a.has.kind == dir
	if b := r.known[a.path]; b != nil {
		ours = ours || a.on == onGuest && a.has.same(&b.guest) || a.on == onHost && a.has.same(&b.host)
	}
	if a.on == onHost {
		err := fs.ErrExist
		if ours {
			if err := r.host.unchanged(a.path, a.has); err != nil {
				return err
			}
			err = r.host.root.Remove(a.path)
		}
		if notEmpty(err) {
			err = r.host.root.Rename(a.path, conflictName(a.path, a.on.String(), a.has.mtime, func(to string) bool {
				there, err := r.host.look(to)
				return there != nil || err != nil
			}))
		}
		return err
	}
	client, err := r.guest.sftp()
	if err != nil {
		return err
	}
	full := r.guest.path(a.path)
	switch {
	case ours && a.has.kind == dir:
		err = client.RemoveDirectory(full)
		if _, refused := errors.AsType[*sftp.StatusError](err); !refused {
			return err
		}
	case ours:
		return r.guest.refusal(client, a.path, client.Remove(full))
	}
	err = client.Rename(full, r.guest.path(conflictName(a.path, a.on.String(), a.has.mtime, func(to string) bool {
		_, err := client.Lstat(r.guest.path(to))
		return err == nil
	})))
	// To be renamed a directory need not be empty.
	if why := r.guest.refusal(client, a.path, err); !errors.Is(why, errNotEmpty) {
		return why
	}
	return err
}

// equal reports whether both sides have the same content at p. Files that
// cannot be read are not the same.
func (r *run) equal(p string) bool {
	client, err := r.guest.sftp()
	if err != nil {
		return false
	}
	there, err := client.Open(r.guest.path(p))
	if err != nil {
		return false
	}
	defer func() { _ = there.Close() }() // it was only read
	here, err := r.host.root.Open(p)
	if err != nil {
		return false
	}
	defer here.Close()
	same := &comparer{with: here}
	_, err = there.WriteTo(same)
	return err == nil && same.ended()
}

// comparer fails when what is written to it is not what is read.
type comparer struct {
	with io.Reader
	buf  []byte
}

var errDiffers = errors.New("differs")

func (c *comparer) Write(p []byte) (int, error) {
	if len(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	if _, err := io.ReadFull(c.with, c.buf[:len(p)]); err != nil {
		return 0, err
	}
	if string(c.buf[:len(p)]) != string(p) {
		return 0, errDiffers
	}
	return len(p), nil
}

func (c *comparer) ended() bool {
	n, err := c.with.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, io.EOF)
}

// progress tells how far the run is.
func (r *run) progress() {
	if r.cfg.Progress == nil {
		return
	}
	r.shown.Lock()
	defer r.shown.Unlock()
	r.cfg.Progress(Progress{int(r.files.Load()), int(r.totalFiles.Load()), r.bytes.Load(), r.totalBytes.Load()})
}

// sent notes a file that is in its place.
func (r *run) sent() {
	r.files.Add(1)
	r.progress()
}

// counted is a reader whose bytes show in the progress.
type counted struct {
	io.Reader
	run *run
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.run.bytes.Add(int64(n))
	c.run.progress()
	return n, err
}

// under joins a directory and a name, "" being the root.
func under(d, name string) string { return strings.TrimPrefix(path.Join(d, name), "/") }
