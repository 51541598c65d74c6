//go:build linux || darwin

package inode_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/inode"
)

// A file is another one than its copy, and changed, whatever time it is given.
func TestOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	of := func(name string) inode.Inode {
		t.Helper()
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		i, ok := inode.Of(info)
		if !ok {
			t.Fatal("the system does not tell")
		}
		return i
	}
	for _, name := range []string{a, b} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Unix(1000, 0)
	if err := os.Chtimes(a, old, old); err != nil {
		t.Fatal(err)
	}
	one, other := of(a), of(b)
	if one.Number == other.Number || one.Device != other.Device {
		t.Errorf("two files: %+v, %+v", one, other)
	}
	if int(one.UID) != os.Geteuid() || !one.Changed.After(old) {
		t.Errorf("%+v", one)
	}
	if _, ok := inode.Of(nowhere{}); ok {
		t.Error("what is in no file system has an inode")
	}
}

type nowhere struct{ fs.FileInfo }

func (nowhere) Sys() any { return nil }
