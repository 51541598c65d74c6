package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/sshclient"
)

// GuestError is what went wrong with a path in the guest.
type GuestError struct {
	Path string
	Err  error
}

func (e *GuestError) Error() string { return fmt.Sprintf("%s in the guest: %v", e.Path, e.Err) }

func (e *GuestError) Unwrap() error { return e.Err }

// inGuest adds the path to err. A nil err stays nil.
func inGuest(name string, err error) error {
	if err == nil {
		return nil
	}
	return &GuestError{name, err}
}

// guest is the guest's side of a download.
type guest struct{ c *sftp.Client }

func (g guest) stat(name string) (fs.FileInfo, error) {
	info, err := g.c.Stat(name)
	return info, inGuest(name, err)
}

func (g guest) lstat(name string) (fs.FileInfo, error) {
	info, err := g.c.Lstat(name)
	return info, inGuest(name, err)
}

func (g guest) readDir(name string) ([]fs.FileInfo, error) {
	infos, err := g.c.ReadDirContext(context.Background(), name)
	return infos, inGuest(name, err)
}

func (g guest) join(dir, name string) string { return path.Join(dir, name) }

func (g guest) readLink(name string) (string, error) {
	link, err := g.c.ReadLink(name)
	return link, inGuest(name, err)
}

func (g guest) open(name string) (io.ReadCloser, error) {
	f, err := g.c.Open(name)
	if err != nil {
		return nil, inGuest(name, err)
	}
	return guestFile{f, name, false}, nil
}

// guestFile is a file of the guest that is read or written with many requests
// under way.
type guestFile struct {
	*sftp.File
	name  string
	syncs bool // the guest can
}

// Sync is left out where the guest knows no such request.
func (f guestFile) Sync() error {
	if !f.syncs {
		return nil
	}
	return f.failed(f.File.Sync())
}

func (f guestFile) WriteTo(w io.Writer) (int64, error) {
	n, err := f.File.WriteTo(w)
	return n, f.failed(err)
}

func (f guestFile) ReadFrom(r io.Reader) (int64, error) {
	n, err := f.File.ReadFrom(r)
	return n, f.failed(err)
}

// failed tells the guest's failures from those of the host's end, which name
// their path.
func (f guestFile) failed(err error) error {
	var status *sftp.StatusError
	var host *fs.PathError
	if errors.As(err, &host) {
		return err
	}
	if errors.As(err, &status) || sshclient.Lost(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return inGuest(f.name, err)
	}
	return err
}

// guestDir is a directory of the guest.
type guestDir struct {
	guest
	dir string
}

// path does not clean the directory: "link/.." is where the link leads, and up.
func (d guestDir) path(name string) string {
	switch name = path.Clean(name); {
	case name == ".":
		return d.dir
	case d.dir == ".":
		return name
	}
	return strings.TrimSuffix(d.dir, "/") + "/" + name
}

func (d guestDir) lstat(name string) (fs.FileInfo, error) { return d.guest.lstat(d.path(name)) }

func (d guestDir) mkdir(name string) error { return inGuest(d.path(name), d.c.Mkdir(d.path(name))) }

func (d guestDir) create(name string) (created, error) {
	f, err := d.c.OpenFile(d.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, inGuest(d.path(name), err)
	}
	version, _ := d.c.HasExtension("fsync@openssh.com")
	return guestFile{f, d.path(name), version == "1"}, nil
}

func (d guestDir) symlink(to, name string) error {
	return inGuest(d.path(name), d.c.Symlink(to, d.path(name)))
}

func (d guestDir) set(name string, mode fs.FileMode, modified time.Time) error {
	name = d.path(name)
	// SFTP's times are 32 bits wide, and without a sign.
	modified = time.Unix(min(max(modified.Unix(), 0), math.MaxUint32), 0)
	return inGuest(name, errors.Join(d.c.Chmod(name, mode), d.c.Chtimes(name, modified, modified)))
}

func (d guestDir) rename(from, to string) error {
	return inGuest(d.path(to), d.c.PosixRename(d.path(from), d.path(to)))
}

func (d guestDir) remove(name string) error { return inGuest(d.path(name), d.c.Remove(d.path(name))) }

// settle has nothing to do: SFTP syncs files only. What is not there after a
// crash is not half there either.
func (d guestDir) settle([]string) error { return nil }

func (d guestDir) explain(name string, err error) error {
	at := d.path(name)
	why := sshclient.WriteFailure(d.c, at, err)
	if errors.Is(why, sshclient.ErrFull) || errors.Is(why, sshclient.ErrReadOnly) {
		return inGuest(at, why)
	}
	return err
}
