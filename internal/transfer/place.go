package transfer

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/hint"
)

// place says where the sources go, as cp -r has it: to names in a directory,
// "." being the directory itself.
//
// Into a directory that is there, each source goes under its own name; a source
// that ends in "/." gives what is in it. Otherwise the one source becomes dst,
// whose parent is there. All paths have slashes.
func place(stat func(string) (fs.FileInfo, error), sources []string, dst string) (dir string, names []string, err error) {
	info, err := stat(dst)
	switch {
	case err == nil && info.IsDir():
		names, err = ownNames(sources)
		return dst, names, err
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return "", nil, err
	case len(sources) > 1 && err == nil:
		return "", nil, fmt.Errorf("%s is not a directory, which several files need", dst)
	case len(sources) > 1:
		return "", nil, hint.Wrap(err, "several files go into a directory that is there: make it first")
	}
	dst, isDir := strings.TrimRight(dst, "/"), strings.HasSuffix(dst, "/")
	// Not path.Dir, which takes away what leads elsewhere: "link/../b".
	dir, name := path.Split(dst)
	switch trimmed := strings.TrimRight(dir, "/"); {
	case dir == "":
		dir = "."
	case trimmed != "" && !strings.HasSuffix(trimmed, ":"): // not "/", nor a drive
		dir = trimmed
	}
	if err := isDirectory(stat, dir); err != nil {
		return "", nil, err
	}
	if isDir {
		name += "/" // must be a directory
	}
	return dir, []string{name}, nil
}

// isDirectory makes sure that dir is a directory. Where it is missing, a file
// above it can be in its way.
func isDirectory(stat func(string) (fs.FileInfo, error), dir string) error {
	info, err := stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return notDirectory(dir, dir)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return err
	}
	dir = path.Clean(dir)
	for above := path.Dir(dir); above != path.Dir(above); above = path.Dir(above) {
		if info, serr := stat(above); serr == nil && !info.IsDir() {
			return notDirectory(above, dir)
		} else if serr == nil {
			break
		}
	}
	return hint.Wrap(err, "the directory to copy into has to be there: make it first")
}

// notDirectory says that a file stands where dir, or a directory above it, is
// needed.
func notDirectory(file, dir string) error {
	err := fmt.Errorf("%s is a file, not a directory", file)
	if file != dir {
		err = fmt.Errorf("%s cannot be there: %w", dir, err)
	}
	return hint.Wrap(err, "copy to another path, or move that file away first")
}

// ownNames returns the last parts of paths.
func ownNames(sources []string) ([]string, error) {
	var names []string
	seen := make(map[string]string)
	for _, s := range sources {
		name := path.Base(s)
		if name == ".." || name == "/" {
			name = "."
		}
		if first, ok := seen[name]; ok && name != "." {
			return nil, fmt.Errorf("%s and %s would both become %q", first, s, name)
		}
		seen[name] = s
		names = append(names, name)
	}
	return names, nil
}
