package machinefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// NotFoundError says that neither a directory nor any of its parents holds a
// machine file.
type NotFoundError struct {
	Dir string // absolute path of the directory where the search began
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no %s in %s or any folder above it", FileName, e.Dir)
}

// Hint says how to get a machine file.
func (e *NotFoundError) Hint() string {
	return `write one with "hostctl init", or name the project's folder with -C DIR`
}

// Find returns the path of the machine file in dir or in its nearest parent.
// A file in dir itself is named as dir is, relative or absolute; one further
// up by its absolute path. Without any it returns a *[NotFoundError].
func Find(dir string) (string, error) {
	start, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", FileName, err)
	}
	for at := start; ; {
		path := filepath.Join(at, FileName)
		info, err := os.Stat(path)
		switch {
		case err == nil && !info.IsDir():
			if at == start {
				return filepath.Join(dir, FileName), nil
			}
			return path, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("find %s: %w", FileName, err)
		}
		parent := filepath.Dir(at)
		if parent == at {
			return "", &NotFoundError{Dir: start}
		}
		at = parent
	}
}
