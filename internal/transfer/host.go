package transfer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/durable"
)

// host is the host's side of an upload.
type host struct{}

func (host) lstat(name string) (fs.FileInfo, error) {
	info, err := os.Lstat(name)
	return info, named(name, err)
}

func hostStat(name string) (fs.FileInfo, error) {
	info, err := os.Stat(name)
	return info, named(name, err)
}

func (host) readDir(name string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, named(name, err)
	}
	var infos []fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, named(filepath.Join(name, e.Name()), err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (host) join(dir, name string) string { return filepath.Join(dir, name) }

func (host) readLink(name string) (string, error) {
	link, err := os.Readlink(name)
	return filepath.ToSlash(link), named(name, err)
}

func (host) open(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, named(name, err)
	}
	return f, nil
}

// hostDir is a directory of the host that nothing leads out of.
type hostDir struct{ root *os.Root }

func (d hostDir) path(name string) string { return filepath.Join(d.root.Name(), name) }

func (d hostDir) lstat(name string) (fs.FileInfo, error) {
	info, err := d.root.Lstat(name)
	return info, named(d.path(name), err)
}

func (d hostDir) mkdir(name string) error {
	return named(d.path(name), d.root.Mkdir(name, 0o700))
}

func (d hostDir) create(name string) (created, error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, named(d.path(name), err)
	}
	return f, nil
}

func (d hostDir) symlink(to, name string) error {
	return named(d.path(name), d.root.Symlink(filepath.FromSlash(to), name))
}

func (d hostDir) set(name string, mode fs.FileMode, modified time.Time) error {
	return named(d.path(name), errors.Join(d.root.Chmod(name, mode), d.root.Chtimes(name, modified, modified)))
}

func (d hostDir) rename(from, to string) error {
	return named(d.path(to), d.root.Rename(from, to))
}

func (d hostDir) remove(name string) error { return named(d.path(name), d.root.Remove(name)) }

func (d hostDir) settle(dirs []string) error {
	for _, dir := range dirs {
		// One that may be written and not read cannot be synced.
		if err := durable.SyncDir(d.path(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return named(d.path(dir), err)
		}
	}
	return nil
}

func (d hostDir) explain(_ string, err error) error { return err }

// hostError is what went wrong with a path of the host.
type hostError struct {
	path string
	err  error
}

func (e *hostError) Error() string { return fmt.Sprintf("%s: %v", e.path, e.err) }

func (e *hostError) Unwrap() error { return e.err }

// named reduces err to its cause, at a path that is known. A nil err stays nil.
func named(name string, err error) error {
	if err == nil {
		return nil
	}
	return &hostError{name, cause(err)}
}

// cause is what the system said.
func cause(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
