package transfer

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

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
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", nil, err
	case len(sources) > 1 && err == nil:
		return "", nil, fmt.Errorf("%s is not a directory, which several files need", dst)
	case len(sources) > 1:
		return "", nil, hint.Wrap(err, "several files go into a directory that is there: make it first")
	}
	dir, name := path.Split(strings.TrimRight(dst, "/"))
	if dir == "" {
		dir = "."
	}
	parent, perr := stat(dir)
	switch {
	case errors.Is(perr, fs.ErrNotExist):
		return "", nil, hint.Wrap(perr, "the directory to copy into has to be there: make it first")
	case perr != nil:
		return "", nil, perr
	case !parent.IsDir():
		return "", nil, fmt.Errorf("%s is not a directory", dir)
	}
	if strings.HasSuffix(dst, "/") {
		name += "/" // must be a directory
	}
	return dir, []string{name}, nil
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
