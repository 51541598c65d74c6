package mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/sshclient"
)

// fetching is how many files come at once: each has packets on their way.
const fetching = 8

// fetch brings the guest's entries to the host.
func (r *run) fetch(actions []*action) error {
	if len(actions) == 0 {
		return nil
	}
	client, err := r.guest.sftp()
	if err != nil {
		return err
	}
	var work errgroup.Group
	work.SetLimit(fetching)
	for _, a := range actions {
		if err := r.clear(a); err != nil {
			if err := r.over(a, err); err != nil {
				return errors.Join(err, work.Wait())
			}
			continue
		}
		if a.has != nil && (a.has.kind == dir) != (a.want.kind == dir) {
			a.has = nil
		}
		if a.want.kind == dir {
			// In order: what is in it comes after.
			if err := r.over(a, r.fetchDir(a)); err != nil {
				return errors.Join(err, work.Wait())
			}
			continue
		}
		work.Go(func() error {
			if a.want.kind == symlink {
				return r.over(a, r.fetchLink(a))
			}
			return r.over(a, r.fetchFile(client, a))
		})
	}
	return work.Wait()
}

// fetched notes what is in its place on the host.
func (r *run) fetched(a *action) error {
	r.named(a.path)
	now, err := r.host.look(a.path)
	if err != nil || now == nil {
		return errors.Join(err, errChanged)
	}
	r.did(a, &pair{*now, *a.want})
	return nil
}

// fetchDir makes a directory. It is writable until all is in it; the next run
// gives it its own permissions.
func (r *run) fetchDir(a *action) error {
	err := r.host.root.Mkdir(a.path, os.FileMode(a.want.mode|0o700))
	if errors.Is(err, fs.ErrExist) {
		info, serr := r.host.root.Lstat(a.path)
		if serr == nil && info.IsDir() {
			err = nil
		}
	}
	if err == nil {
		err = r.host.root.Chmod(a.path, os.FileMode(a.want.mode|0o700)) // in spite of the umask
	}
	if err != nil {
		return err
	}
	return r.fetched(a)
}

// fetchLink makes a link that stays a link within the share. Where it leads
// through a link of the host's own that leads out, it is refused.
func (r *run) fetchLink(a *action) error {
	root := r.host.root
	if !inside(a.path, a.want.target) {
		return errLeadsOutside
	}
	if err := r.host.follows(a.path, a.want.target); err != nil {
		return fmt.Errorf("%w: %w", errLeadsOutside, err)
	}
	temp := under(parent(a.path), tempPrefix+partName(a.path, a.want))
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := root.Symlink(a.want.target, temp); err != nil {
		return err
	}
	if err := r.settleHost(temp, a); err != nil {
		return errors.Join(err, root.Remove(temp))
	}
	return r.fetched(a)
}

// settleHost puts what is whole in its place, if that is still as it was
// scanned. What was not there must not have come meanwhile.
func (r *run) settleHost(temp string, a *action) error {
	root := r.host.root
	if a.has == nil && a.want.kind == file {
		err := root.Link(temp, a.path)
		if err == nil {
			return root.Remove(temp)
		}
		if errors.Is(err, fs.ErrExist) {
			return errChanged
		}
		// A file system without links: look, and be quick.
	}
	if err := r.host.unchanged(a.path, a.has); err != nil {
		return err
	}
	return root.Rename(temp, a.path)
}

// fetchFile brings a file. One that an earlier run left half done is gone on
// with, if the guest proves that it is the same.
func (r *run) fetchFile(client *sftp.Client, a *action) error {
	root := r.host.root
	temp := under(parent(a.path), tempPrefix+partName(a.path, a.want))
	r.mu.Lock()
	half := r.parts[temp]
	delete(r.parts, temp)
	r.mu.Unlock()
	flags := os.O_RDWR | os.O_CREATE
	if !half {
		flags |= os.O_EXCL
	}
	to, err := root.OpenFile(temp, flags, 0o600)
	if err != nil {
		return err
	}
	err = r.download(client, to, half, a)
	if err == nil {
		err = to.Sync()
	}
	err = errors.Join(err, to.Close())
	if err == nil {
		at := time.Unix(0, a.want.mtime)
		err = root.Chtimes(temp, at, at)
	}
	switch {
	case err == nil:
	case r.ctx.Err() != nil || sshclient.Lost(err) || errors.Is(err, syscall.ENOSPC):
		return err // what ends the run: the next one goes on, or removes it
	default:
		return errors.Join(err, root.Remove(temp))
	}
	if err := r.settleHost(temp, a); err != nil {
		return errors.Join(err, root.Remove(temp))
	}
	if err := r.fetched(a); err != nil {
		return err
	}
	r.sent()
	return nil
}

func (r *run) download(client *sftp.Client, to *os.File, half bool, a *action) error {
	full := r.guest.path(a.path)
	from, err := client.Open(full)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // it was only read
	// The name may lead elsewhere by now; what was listed is a file.
	if err := r.guest.unchanged(client, a.path, a.want); err != nil {
		return err
	}
	offset := int64(0)
	if half {
		if offset, err = r.downloaded(to, full, a.want.size); err != nil {
			return err
		}
	}
	if err := to.Truncate(offset); err != nil {
		return err
	}
	if _, err := to.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	if _, err := from.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	r.bytes.Add(offset)
	w := &sized{w: to, left: a.want.size - offset, run: r}
	if _, err := from.WriteTo(w); err != nil {
		return err
	}
	if w.left != 0 {
		return errChanged
	}
	if err := r.guest.unchanged(client, a.path, a.want); err != nil {
		return err
	}
	return to.Chmod(os.FileMode(a.want.mode))
}

// downloaded is how much of the guest's file is in to already.
func (r *run) downloaded(to *os.File, full string, size int64) (int64, error) {
	info, err := to.Stat()
	if err != nil {
		return 0, err
	}
	n := min(info.Size(), size)
	if n < small || !r.guest.shell {
		return 0, nil
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, to, n); err != nil {
		return 0, err
	}
	there, err := r.guest.hash(r.ctx, full, n)
	if err != nil || there != hex.EncodeToString(sum.Sum(nil)) {
		return 0, err
	}
	return n, nil
}

// sized takes as much as was listed: a guest may send without end.
type sized struct {
	w    io.Writer
	left int64
	run  *run
}

func (s *sized) Write(p []byte) (int, error) {
	if int64(len(p)) > s.left {
		return 0, errChanged
	}
	n, err := s.w.Write(p)
	s.left -= int64(n)
	s.run.bytes.Add(int64(n))
	s.run.progress()
	return n, err
}
