package mirror

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/sshtest"
)

// files is what a side has, as write takes it.
type files = map[string]string

// Each case starts with both sides alike, changes each, and says what both
// have in the end.
func TestBoth(t *testing.T) {
	t.Parallel()
	conn := dial(t, sshtest.Start(t))
	at := time.Date(2026, 11, 25, 17, 30, 0, 0, time.UTC)
	set := func(name, content string, minutes int) func(root string) {
		return func(root string) {
			full := filepath.Join(root, name)
			_ = os.RemoveAll(full)
			write(t, root, files{name: content})
			if err := os.Chtimes(full, time.Time{}, at.Add(time.Duration(minutes)*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
	}
	gone := func(name string) func(root string) {
		return func(root string) {
			if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	put := func(name, content string) func(root string) {
		return func(root string) {
			_ = os.RemoveAll(filepath.Join(root, name))
			write(t, root, files{name: content})
		}
	}
	type edits []func(root string)
	for _, tt := range []struct {
		name        string
		host, guest edits
		want        files
	}{
		{"nothing", nil, nil, files{"f": "old", "d/": "", "d/g": "old"}},
		{"host changes", edits{set("f", "new!", 1)}, nil, files{"f": "new!", "d/": "", "d/g": "old"}},
		{"guest changes", nil, edits{set("f", "new!", 1)}, files{"f": "new!", "d/": "", "d/g": "old"}},
		{"guest changes to the same size", nil, edits{set("f", "new", 1)}, files{"f": "new", "d/": "", "d/g": "old"}},
		{"host adds", edits{set("d/n", "n", 1)}, nil, files{"f": "old", "d/": "", "d/g": "old", "d/n": "n"}},
		{"guest adds", nil, edits{set("e/n", "n", 1)}, files{"f": "old", "d/": "", "d/g": "old", "e/": "", "e/n": "n"}},
		{"host deletes", edits{gone("f")}, nil, files{"d/": "", "d/g": "old"}},
		{"guest deletes", nil, edits{gone("f")}, files{"d/": "", "d/g": "old"}},
		{"host deletes a directory", edits{gone("d")}, nil, files{"f": "old"}},
		{"guest deletes a directory", nil, edits{gone("d")}, files{"f": "old"}},
		{"both delete", edits{gone("d")}, edits{gone("d")}, files{"f": "old"}},
		{"both change alike", edits{set("f", "new", 1)}, edits{set("f", "new", 2)}, files{"f": "new", "d/": "", "d/g": "old"}},
		{"host changes later", edits{set("f", "host", 2)}, edits{set("f", "guest", 1)},
			files{"f": "host", "f.conflict-guest-20261125T173100": "guest", "d/": "", "d/g": "old"}},
		{"guest changes later", edits{set("f", "host", 1)}, edits{set("f", "guest", 2)},
			files{"f": "guest", "f.conflict-host-20261125T173100": "host", "d/": "", "d/g": "old"}},
		{"at the same time and of the same size", edits{set("f", "1", 1)}, edits{set("f", "2", 2)},
			files{"f": "2", "f.conflict-host-20261125T173100": "1", "d/": "", "d/g": "old"}},
		{"both add", edits{set("n.txt", "host", 1)}, edits{set("n.txt", "guest", 2)},
			files{"f": "old", "n.txt": "guest", "n.conflict-host-20261125T173100.txt": "host", "d/": "", "d/g": "old"}},
		{"host deletes what the guest changes", edits{gone("f")}, edits{set("f", "guest", 1)}, files{"f": "guest", "d/": "", "d/g": "old"}},
		{"guest deletes what the host changes", edits{set("f", "host", 1)}, edits{gone("f")}, files{"f": "host", "d/": "", "d/g": "old"}},
		{"host deletes the directory of what the guest adds", edits{gone("d")}, edits{set("d/n", "n", 1)}, files{"f": "old", "d/": "", "d/n": "n"}},
		{"guest deletes the directory of what the host changes", edits{set("d/g", "new", 1)}, edits{gone("d")}, files{"f": "old", "d/": "", "d/g": "new"}},
		{"file becomes a directory on the host", edits{put("f", ""), gone("f"), put("f/x", "x")}, nil, files{"f/": "", "f/x": "x", "d/": "", "d/g": "old"}},
		{"file becomes a directory in the guest", nil, edits{gone("f"), put("f/x", "x")}, files{"f/": "", "f/x": "x", "d/": "", "d/g": "old"}},
		{"directory becomes a file on the host", edits{gone("d"), put("d", "file")}, nil, files{"f": "old", "d": "file"}},
		{"directory becomes a file in the guest", nil, edits{gone("d"), put("d", "file")}, files{"f": "old", "d": "file"}},
		{"directory becomes a file in the guest while the host adds to it", edits{put("d/n/x", "x")}, edits{gone("d"), put("d", "file")},
			files{"f": "old", "d": "file", "d.conflict-host/": "", "d.conflict-host/n/": "", "d.conflict-host/n/x": "x"}},
		{"directory becomes a file on the host while the guest adds to it", edits{gone("d"), put("d", "file")}, edits{put("d/n/x", "x")},
			files{"f": "old", "d": "file", "d.conflict-guest/": "", "d.conflict-guest/n/": "", "d.conflict-guest/n/x": "x"}},
		{"file becomes a link", edits{gone("f"), put("f", "-> d/g")}, nil, files{"f": "-> d/g", "d/": "", "d/g": "old"}},
		{"link comes from the guest", nil, edits{put("d/l", "-> ../f")}, files{"f": "old", "d/": "", "d/g": "old", "d/l": "-> ../f"}},
		{"link against a file", edits{gone("f"), put("f", "-> d/g")}, edits{set("f", "guest", 1)},
			files{"f": "-> d/g", "f.conflict-guest-20261125T173100": "guest", "d/": "", "d/g": "old"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, conn, true)
			set("f", "old", 0)(b.cfg.Host)
			set("d/g", "old", 0)(b.cfg.Host)
			b.sync()
			for _, edit := range tt.host {
				edit(b.cfg.Host)
			}
			for _, edit := range tt.guest {
				edit(b.cfg.Guest)
			}
			b.settle()
			if diff := cmp.Diff(tt.want, read(t, b.cfg.Host)); diff != "" {
				t.Errorf("host:\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, read(t, b.cfg.Guest)); diff != "" {
				t.Errorf("guest:\n%s", diff)
			}
		})
	}
}

// settle runs until there is nothing more to do.
func (b *bench) settle() {
	b.t.Helper()
	for range 8 {
		if r := b.sync(); len(r.Changes) == 0 {
			return
		}
	}
	b.t.Errorf("does not come to rest: %+v", b.sync().Changes)
}

// Random trees and edits on both sides: whatever order they come in, both
// sides end up alike, and every content that a side had last and did not
// delete or replace itself is on both.
func TestBothConverges(t *testing.T) {
	t.Parallel()
	conn := dial(t, sshtest.Start(t))
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, conn, true)
			b.sync()
			rnd := rand.New(rand.NewPCG(seed, 1))
			n := 0
			for range 5 {
				// What each side writes in this round must be somewhere after it.
				written := map[string]bool{}
				for _, root := range []string{b.cfg.Host, b.cfg.Guest} {
					mine := map[string]string{} // path to content
					for range 1 + rnd.IntN(12) {
						n++
						edit(rnd, root, fmt.Sprintf("content %d of %d", n, seed), mine)
					}
					for p, content := range mine {
						if data, err := os.ReadFile(filepath.Join(root, p)); err == nil && string(data) == content {
							written[content] = true
						}
					}
				}
				host, guest := read(t, b.cfg.Host), read(t, b.cfg.Guest)
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("host: %v\nguest: %v", host, guest)
					}
				})
				b.settle()
				b.same()
				have := map[string]bool{}
				for _, content := range read(t, b.cfg.Host) {
					have[content] = true
				}
				for content := range written {
					if !have[content] {
						t.Errorf("%q is lost", content)
					}
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// edit does one of the things that people do to a tree.
func edit(rnd *rand.Rand, root, content string, mine map[string]string) {
	names := []string{"a", "b.txt", "c"}
	var parts []string
	for range 1 + rnd.IntN(3) {
		parts = append(parts, names[rnd.IntN(len(names))])
	}
	p := strings.Join(parts, "/")
	full := filepath.Join(root, p)
	switch rnd.IntN(8) {
	case 0, 1, 2, 3:
		if os.MkdirAll(filepath.Dir(full), 0o755) == nil && os.WriteFile(full, []byte(content), 0o644) == nil {
			mine[p] = content
		}
	case 4:
		_ = os.RemoveAll(full)
	case 5:
		_ = os.Rename(full, filepath.Join(root, names[rnd.IntN(len(names))]))
	case 6:
		_ = os.MkdirAll(full, 0o755)
	case 7:
		_ = os.Chmod(full, []os.FileMode{0o755, 0o700, 0o775}[rnd.IntN(3)])
	}
}
