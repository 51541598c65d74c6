//go:build unix

package transfer_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/sshtest"
	"github.com/hostctl/hostctl/internal/transfer"
)

// connect returns SFTP to an sshd on this host: its files are the guest's.
func connect(t *testing.T) (*sftp.Client, *sshtest.Server) {
	t.Helper()
	s := sshtest.Start(t)
	c, err := sshclient.Dial(t.Context(), s.Target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	files, err := c.SFTP(t.Context(), false, transfer.SFTP()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	return files, s
}

type way func(ctx context.Context, c *sftp.Client, sources []string, dst string, o transfer.Options) (transfer.Result, error)

// both runs a test for both ways: where sshd runs on this host, they differ by
// who reads and who writes only.
func both(t *testing.T, test func(t *testing.T, copy way)) {
	t.Helper()
	for name, w := range map[string]way{"upload": transfer.Upload, "download": transfer.Download} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, w)
		})
	}
}

// write makes files: "NAME" with that content; a content of "->TO" makes a link,
// a name that ends in a slash a directory.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		to, isLink := strings.CutPrefix(content, "->")
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case isLink:
			err = os.Symlink(to, path)
		default:
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// read is the reverse of write; empty directories only are mentioned.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		delete(files, filepath.Dir(name)+"/")
		switch {
		case d.IsDir():
			files[name+"/"] = ""
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			files[name] = "->" + to
			return err
		default:
			data, err := os.ReadFile(path)
			files[name] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// What goes where, as cp -r has it.
func TestPlaces(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, copy way) {
		c, _ := connect(t)
		for _, tt := range []struct {
			name    string
			there   map[string]string
			sources []string
			dst     string
			want    map[string]string
		}{
			{"file to a new name", nil, []string{"a"}, "b", map[string]string{"b": "A"}},
			{"file over a file", map[string]string{"b": "old"}, []string{"a"}, "b", map[string]string{"b": "A"}},
			{"file over a link", map[string]string{"b": "->c", "c": "C"}, []string{"a"}, "b", map[string]string{"b": "A", "c": "C"}},
			{"file into a directory", map[string]string{"b/": ""}, []string{"a"}, "b", map[string]string{"b/a": "A"}},
			{"file into a directory, with a slash", map[string]string{"b/": ""}, []string{"a"}, "b/", map[string]string{"b/a": "A"}},
			{"file into a directory behind a link", map[string]string{"b": "->c", "c/": ""}, []string{"a"}, "b", map[string]string{"b": "->c", "c/a": "A"}},
			{"files", nil, []string{"a", "d"}, "", map[string]string{"a": "A", "d/e": "E", "d/f/g": "G", "d/h": "->../../h", "d/i/": ""}},
			{"tree to a new name", nil, []string{"d"}, "x", map[string]string{"x/e": "E", "x/f/g": "G", "x/h": "->../../h", "x/i/": ""}},
			{"tree to a new name, with a slash", nil, []string{"d/"}, "x/", map[string]string{"x/e": "E", "x/f/g": "G", "x/h": "->../../h", "x/i/": ""}},
			{"tree into a directory", map[string]string{"x/d/f/old": "", "x/d/e": "old"}, []string{"d"}, "x",
				map[string]string{"x/d/e": "E", "x/d/f/g": "G", "x/d/f/old": "", "x/d/h": "->../../h", "x/d/i/": ""}},
			{"what is in a tree", map[string]string{"x/old": ""}, []string{"d/."}, "x", map[string]string{"x/e": "E", "x/f/g": "G", "x/h": "->../../h", "x/i/": "", "x/old": ""}},
			{"what is in a tree, to a new name", nil, []string{"d/."}, "x", map[string]string{"x/e": "E", "x/f/g": "G", "x/h": "->../../h", "x/i/": ""}},
			{"beside what a link leads to", map[string]string{"link": "->x/y", "x/y/": "", "b": "old"}, []string{"a"}, "link/../b",
				map[string]string{"link": "->x/y", "x/y/": "", "x/b": "A", "b": "old"}},
			{"link over a file", map[string]string{"h": "old"}, []string{"d/h"}, "", map[string]string{"h": "->../../h"}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				from, to := t.TempDir(), t.TempDir()
				write(t, from, map[string]string{"a": "A", "d/e": "E", "d/f/g": "G", "d/h": "->../../h", "d/i/": ""})
				write(t, to, tt.there)
				var sources []string
				for _, s := range tt.sources {
					sources = append(sources, from+"/"+s)
				}
				if _, err := copy(t.Context(), c, sources, to+"/"+tt.dst, transfer.Options{}); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, read(t, to)); diff != "" {
					t.Error(diff)
				}
			})
		}
	})
}

// What cannot be, and that nothing is there afterwards which was not before.
func TestRefused(t *testing.T) {
	t.Parallel()
	const makeIt = "the directory to copy into has to be there: make it first"
	const moveIt = "copy to another path, or move that file away first"
	for _, tt := range []struct {
		name       string
		there      map[string]string
		sources    []string
		dst        string
		want, hint string // of an upload
		download   string
	}{
		{"no such source", nil, []string{"x"}, "", "FROM/x: no such file or directory", "", "FROM/x in the guest: file does not exist"},
		{"no such directory", nil, []string{"a"}, "x/y", "TO/x in the guest: file does not exist", makeIt, "TO/x: no such file or directory"},
		{"below a file", map[string]string{"x": ""}, []string{"a"}, "x/y", "TO/x is a file, not a directory", moveIt, "TO/x is a file, not a directory"},
		{"deep below a file", map[string]string{"x": ""}, []string{"d"}, "x/y/z", "TO/x/y cannot be there: TO/x is a file, not a directory", moveIt,
			"TO/x/y cannot be there: TO/x is a file, not a directory"},
		{"file with a slash", nil, []string{"a"}, "x/", "TO/x is not a directory", "", "TO/x is not a directory"},
		{"what is in a file", map[string]string{"x/": ""}, []string{"a/."}, "x", "FROM/a/.: not a directory", "", "FROM/a/. in the guest: file does not exist"},
		{"tree over a file", map[string]string{"x": ""}, []string{"d"}, "x", "TO/x is there and not a directory, which FROM/d is", "", "TO/x is there and not a directory, which FROM/d is"},
		{"tree over a link", map[string]string{"d": "->y", "y/": ""}, []string{"d"}, "", "TO/d is there and not a directory, which FROM/d is", "", "TO/d is there and not a directory, which FROM/d is"},
		{"file over a directory", map[string]string{"a/": ""}, []string{"a"}, "", "TO/a is a directory, and FROM/a is not", "", "TO/a is a directory, and FROM/a is not"},
		{"files over a file", map[string]string{"x": ""}, []string{"a", "d"}, "x", "TO/x is not a directory, which several files need", "", "TO/x is not a directory, which several files need"},
		{"files to nowhere", nil, []string{"a", "d"}, "x", "TO/x in the guest: file does not exist", "several files go into a directory that is there: make it first", "TO/x: no such file or directory"},
		{"two of a name", nil, []string{"a", "d/a"}, "", `FROM/a and FROM/d/a would both become "a"`, "", `FROM/a and FROM/d/a would both become "a"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, copy way) {
				c, _ := connect(t)
				from, to := t.TempDir(), t.TempDir()
				write(t, from, map[string]string{"a": "A", "d/a": "E"})
				write(t, to, tt.there)
				before := read(t, to)
				var sources []string
				for _, s := range tt.sources {
					sources = append(sources, from+"/"+s)
				}
				_, err := copy(t.Context(), c, sources, to+"/"+tt.dst, transfer.Options{})
				if err == nil {
					t.Fatal("no error")
				}
				want := tt.want
				if strings.HasSuffix(t.Name(), "download") {
					want = tt.download
				}
				if got := strings.NewReplacer(from, "FROM", to, "TO").Replace(err.Error()); got != want {
					t.Errorf("error %s\nwant  %s", got, want)
				}
				if got := hint.Of(err); got != tt.hint {
					t.Errorf("hint %q, want %q", got, tt.hint)
				}
				if diff := cmp.Diff(before, read(t, to)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// Modes and times are kept, also those of directories that nobody may write
// into; directories that were there keep theirs.
func TestModesAndTimes(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, copy way) {
		c, _ := connect(t)
		from, to := t.TempDir(), t.TempDir()
		write(t, from, map[string]string{"d/script": "#!/bin/sh", "d/private/key": "secret", "d/sealed/a/b": ""})
		modes := map[string]fs.FileMode{"d": 0o775, "d/script": 0o751, "d/private": 0o700, "d/private/key": 0o400, "d/sealed": 0o555, "d/sealed/a": 0o555, "d/sealed/a/b": 0o666}
		old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
		for name, mode := range modes {
			if err := os.Chmod(filepath.Join(from, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		for name := range modes {
			if err := os.Chtimes(filepath.Join(from, name), old, old); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(to, "there"), 0o711); err != nil {
			t.Fatal(err)
		}
		if _, err := copy(t.Context(), c, []string{from + "/d/."}, to+"/there", transfer.Options{}); err != nil {
			t.Fatal(err)
		}
		modes["d"] = 0o711
		for name, mode := range modes {
			info, err := os.Stat(filepath.Join(to, strings.Replace(name, "d", "there", 1)))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != mode {
				t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
			}
			if name != "d" && !info.ModTime().Equal(old) {
				t.Errorf("%s is of %v, want %v", name, info.ModTime(), old)
			}
		}
	})
}

// Large files, many files, and what is told on the way.
func TestAmounts(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, copy way) {
		c, _ := connect(t)
		from, to := t.TempDir(), t.TempDir()
		files := map[string]string{"empty": "", "one byte": "1"}
		var total int64 = 1
		for _, size := range []int{1 << 15, 1<<15 + 1, 5<<20 + 7} {
			data := make([]byte, size)
			_, _ = rand.Read(data)
			files[fmt.Sprint(size)] = string(data)
			total += int64(size)
		}
		for i := range 300 {
			files[fmt.Sprintf("d%d/%d", i%7, i)] = strings.Repeat("x", i)
			total += int64(i)
		}
		write(t, from, files)
		var most atomic.Int64
		r, err := copy(t.Context(), c, []string{from + "/."}, to, transfer.Options{Progress: func(done, all int64) {
			most.Store(max(most.Load(), done))
			if done > all || all != total {
				t.Errorf("told %d of %d, want at most %d", done, all, total)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		want := transfer.Result{Files: len(files), Directories: 7, Bytes: total, Skipped: []string{}}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Error(diff)
		}
		if most.Load() != total {
			t.Errorf("told of %d bytes in the end, of %d", most.Load(), total)
		}
		if diff := cmp.Diff(files, read(t, to)); diff != "" {
			t.Error("the trees differ")
		}
	})
}

// Interrupted, or cut off, in the middle: nothing half is left.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, copy way) {
		c, _ := connect(t)
		from, to := t.TempDir(), t.TempDir()
		write(t, from, map[string]string{"big": strings.Repeat("0123456789abcdef", 4<<20/16), "big2": strings.Repeat("x", 4<<20)})
		write(t, to, map[string]string{"big": "old"})
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		stop := errors.New("enough")
		_, err := copy(ctx, c, []string{from + "/."}, to, transfer.Options{Progress: func(done, _ int64) {
			if done > 1<<20 {
				cancel(stop)
			}
		}})
		if !errors.Is(err, stop) {
			t.Fatalf("error %v", err)
		}
		if diff := cmp.Diff(map[string]string{"big": "old"}, read(t, to)); diff != "" {
			t.Error(diff)
		}
	})
}

// A connection that is lost is an error, and what has its name is whole.
func TestLost(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, copy way) {
		c, s := connect(t)
		from, to := t.TempDir(), t.TempDir()
		write(t, from, map[string]string{"big": strings.Repeat("x", 8<<20)})
		write(t, to, map[string]string{"big": "old"})
		_, err := copy(t.Context(), c, []string{from + "/big"}, to, transfer.Options{Progress: func(done, _ int64) {
			if done > 1<<20 {
				s.HangUp()
			}
		}})
		if _, ok := errors.AsType[*transfer.GuestError](err); !ok || !sshclient.Lost(err) {
			t.Fatalf("error %v", err)
		}
		if got := read(t, to)["big"]; got != "old" {
			t.Errorf("the file has %d bytes", len(got))
		}
	})
}

// SFTP has no way to make a socket, and a file that one may not read or write is
// said with its path.
func TestSpecialFiles(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, copy way) {
		c, _ := connect(t)
		from, to := t.TempDir(), t.TempDir()
		write(t, from, map[string]string{"d/a": "A"})
		if err := syscall.Mkfifo(from+"/d/fifo", 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := copy(t.Context(), c, []string{from + "/d"}, to, transfer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := transfer.Result{Files: 1, Directories: 1, Bytes: 1, Skipped: []string{from + "/d/fifo"}}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Error(diff)
		}
		_, err = copy(t.Context(), c, []string{from + "/d/fifo"}, to, transfer.Options{})
		if want := from + "/d/fifo is neither a file nor a directory"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	})
}
