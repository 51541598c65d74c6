package machinefile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	project := filepath.Join(root, "my project")
	below := filepath.Join(project, "a", "ü")
	// A folder of that name is not a machine file.
	if err := os.MkdirAll(filepath.Join(below, FileName), 0o700); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(project, FileName)
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{project, below, filepath.Join(project, ".", "a", "..")} {
		if got, err := Find(dir); err != nil || got != want {
			t.Errorf("from %s: got %s, %v; want %s", dir, got, err, want)
		}
	}

	_, err := Find(root)
	var missing *NotFoundError
	if !errors.As(err, &missing) || missing.Dir != root {
		t.Fatalf("got %v, want a NotFoundError from %s", err, root)
	}
	if got, want := err.Error(), "no machine.hcl in "+root+" or any folder above it"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !strings.Contains(missing.Hint(), "hostctl init") {
		t.Errorf("got hint %s", missing.Hint())
	}
}

// A path as short as the user's own keeps messages readable.
func TestFindKeepsRelativePaths(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "examples", "single")
	if got, err := Find(dir); err != nil || got != filepath.Join(dir, FileName) {
		t.Errorf("got %s, %v", got, err)
	}
}
