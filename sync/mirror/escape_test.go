package mirror

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/sshtest"
)

// Links of the guest that would lead out of the folder do not come to the
// host, whatever they lead through.
func TestLinksStayInside(t *testing.T) {
	t.Parallel()
	b := newBench(t, dial(t, sshtest.Start(t)), true)
	outside := filepath.Join(filepath.Dir(b.cfg.Host), "outside")
	write(t, outside, files{"secret": "s"})
	write(t, b.cfg.Host, files{"d/deep/": "", "mine": "-> ../outside"}) // the host's user may
	b.sync()
	bad := files{
		"abs": "-> " + outside, "up": "-> ../outside/secret", "d/up": "-> ../../outside", "through": "-> mine/secret",
		"d/deep/sly": "-> ../../d/../../outside", "in/../..": "",
	}
	delete(bad, "in/../..")
	good := files{"ok": "-> d/deep", "d/ok": "-> ../d/deep", "dangling": "-> nowhere"}
	write(t, b.cfg.Guest, bad)
	write(t, b.cfg.Guest, good)
	r, err := Sync(t.Context(), b.conn, b.cfg)
	if partial, ok := errors.AsType[*PartialError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		for _, p := range partial.Problems {
			if !errors.Is(p.Err, errLeadsOutside) {
				t.Errorf("%s: %v", p.Path, p.Err)
			}
		}
	}
	got := read(t, b.cfg.Host)
	for name := range bad {
		if target, ok := got[name]; ok {
			t.Errorf("%s %s came to the host", name, target)
		}
	}
	for name, target := range good {
		if got[name] != target {
			t.Errorf("%s = %q, want %q", name, got[name], target)
		}
	}
	if len(r.Skipped) == 0 {
		t.Error("nothing is said to be left out")
	}
	// A file below what is a link on the host is not written through it.
	if err := os.Remove(filepath.Join(b.cfg.Guest, "mine")); err != nil {
		t.Fatal(err)
	}
	write(t, b.cfg.Guest, files{"mine/secret": "overwritten"})
	_, _ = Sync(t.Context(), b.conn, b.cfg) // refused or not
	if got := read(t, outside)["secret"]; got != "s" {
		t.Errorf("outside, the guest wrote %q", got)
	}
}

// What a guest may say instead of a listing.
func TestListingsAreNotTrusted(t *testing.T) {
	t.Parallel()
	const head = "hostctl-mirror 00  \x00"
	for _, tt := range []struct{ name, text string }{
		{"up", "f 644 1 1.0 ../x\x00\x00"},
		{"up below", "f 644 1 1.0 a/../../x\x00\x00"},
		{"absolute", "f 644 1 1.0 /etc/passwd\x00\x00"},
		{"empty", "f 644 1 1.0 \x00\x00"},
		{"dot", "f 644 1 1.0 .\x00\x00"},
		{"twice a slash", "f 644 1 1.0 a//b\x00\x00"},
		{"negative", "f 644 -1 1.0 a\x00\x00"},
		{"no mode", "f x 1 1.0 a\x00\x00"},
		{"half", "f 644 1 1.0 a\x00"},
		{"long", "f 644 1 1.0 " + strings.Repeat("a", maxRecord) + "\x00\x00"},
	} {
		g := &guest{skip: NewMatcher(nil)}
		found := tree{}
		if err := g.parse(bufio.NewReaderSize(strings.NewReader(head+tt.text), 64<<10), found); !errors.Is(err, errListing) {
			t.Errorf("%s: error %v, found %v", tt.name, err, found)
		}
	}
	// What is in something that is no directory is left out.
	g := &guest{skip: NewMatcher(nil)}
	found := tree{}
	text := "hostctl-mirror 00  \x00l 777 1 1.0 d\x00/etc\x00f 644 1 1.0 d/x\x00\x00"
	if err := g.parse(bufio.NewReaderSize(strings.NewReader(text), 64<<10), found); err != nil || found["d/x"] != nil {
		t.Errorf("error %v, found %v", err, found)
	}
}

func TestInside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		path, target string
		want         bool
	}{
		{"l", "a", true}, {"l", "a/b", true}, {"d/l", "../a", true}, {"d/e/l", "../../a", true}, {"l", ".", true}, {"d/l", "..", true},
		{"l", "..", false}, {"l", "../a", false}, {"d/l", "../../a", false}, {"l", "/a", false}, {"l", "", false},
		{"l", "a/..", false}, {"d/l", "../a/../../b", false}, {"l", "./../a", false},
	} {
		if got := inside(tt.path, tt.target); got != tt.want {
			t.Errorf("inside(%q, %q) = %v", tt.path, tt.target, got)
		}
	}
}

// What is left out is what Git would leave out.
func TestIgnoreLikeGit(t *testing.T) {
	t.Parallel()
	lines := []string{"# comment", "", "*.log", "!keep.log", "/build", "tmp/", "doc/*.txt", "a/**/z", "**/cache", "dir/**", "sp\\ ace", "[ab].x", "q?z", "deep/er/"}
	paths := []string{
		"x.log", "keep.log", "d/x.log", "build/", "build/f", "d/build", "tmp", "tmp/", "d/tmp/", "doc/a.txt", "doc/d/a.txt", "d/doc/a.txt",
		"a/z", "a/b/z", "a/b/c/z", "b/z", "cache", "d/cache", "dir/x", "dir/y/z", "sp ace", "a.x", "c.x", "qaz", "qz", "deep/er/", "x/deep/er/", "plain",
	}
	repo := quick(t)
	write(t, repo, files{".gitignore": strings.Join(lines, "\n") + "\n"})
	git := func(args ...string) *exec.Cmd { return exec.Command("git", append([]string{"-C", repo}, args...)...) }
	if out, err := git("init", "-q").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m := NewMatcher(lines)
	got, want := map[string]bool{}, map[string]bool{}
	for _, p := range paths {
		clean := strings.TrimSuffix(p, "/")
		for d := range ancestors(clean) {
			got[p] = got[p] || m.Match(d, true)
		}
		got[p] = got[p] || m.Match(clean, clean != p)
		err := git("check-ignore", "-q", "--no-index", p).Run()
		want[p] = err == nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Git and we differ:\n%s", diff)
	}
}

func ancestors(p string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for d := parent(p); d != ""; d = parent(d) {
			if !yield(d) {
				return
			}
		}
	}
}

func TestIgnored(t *testing.T) {
	t.Parallel()
	b := newBench(t, dial(t, sshtest.Start(t)), true)
	b.cfg.Ignore = []string{"node_modules/", "!keep.swp"}
	write(t, b.cfg.Host, files{"a": "1", "a.swp": "2", "keep.swp": "3", ".DS_Store": "4", ".hostctl/key": "5", "x/node_modules/y": "6"})
	b.sync()
	write(t, b.cfg.Guest, files{"b.swp": "7", "node_modules/z": "8"})
	b.settle()
	if diff := cmp.Diff(files{"a": "1", "keep.swp": "3", "x/": "", "b.swp": "7", "node_modules/": "", "node_modules/z": "8"}, read(t, b.cfg.Guest)); diff != "" {
		t.Errorf("guest:\n%s", diff)
	}
	if got := read(t, b.cfg.Host); got["b.swp"] != "" || got["node_modules/z"] != "" {
		t.Errorf("host: %v", got)
	}
}

// A copy that was lost is made again: nothing on the host is taken for deleted.
// The same for a host folder that is another one.
func TestOtherCopy(t *testing.T) {
	t.Parallel()
	conn := dial(t, sshtest.Start(t))
	for _, lose := range []string{"guest", "host"} {
		t.Run(lose, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, conn, true)
			all := files{"a": "1", "d/": "", "d/b": "2"}
			write(t, b.cfg.Host, all)
			b.sync()
			root := map[string]string{"guest": b.cfg.Guest, "host": b.cfg.Host}[lose]
			if err := errors.Join(os.RemoveAll(root), os.Mkdir(root, 0o755)); err != nil {
				t.Fatal(err)
			}
			b.settle()
			b.same()
			if diff := cmp.Diff(all, read(t, b.cfg.Host)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	b := newBench(t, dial(t, sshtest.Start(t)), false)
	write(t, b.cfg.Host, files{"a": "1"})
	b.cfg.DryRun = true
	lock := flock.New(b.cfg.Base + ".lock") // as the agent has it while it mirrors
	if ok, err := lock.TryLock(); !ok {
		t.Fatal(err)
	}
	defer lock.Unlock()
	r := b.sync()
	if want := []Change{{Action: "put", On: "guest", Path: "a"}}; !cmp.Equal(r.Changes, want) {
		t.Errorf("changes %+v", r.Changes)
	}
	if _, err := os.Stat(b.cfg.Guest); err == nil {
		t.Error("a dry run made the folder")
	}
}

// A link that does not come to the host takes nothing away there either: in the
// guest what it took the place of may be where it leads.
func TestRefusedLinkForADirectory(t *testing.T) {
	t.Parallel()
	b := newBench(t, dial(t, sshtest.Start(t)), true)
	outside := filepath.Join(filepath.Dir(b.cfg.Host), "outside")
	write(t, outside, files{"moved/": ""})
	tree := files{"mine": "-> ../outside"}
	links := map[string]string{"out": filepath.Join(outside, "moved", "out"), "through": "mine/moved/through"}
	for d := range links {
		tree[d+"/"], tree[d+"/x"], tree[d+"/d/"], tree[d+"/d/y"] = "", "1", "", "2"
	}
	write(t, b.cfg.Host, tree)
	b.settle()
	for d, target := range links {
		inGuest := filepath.Join(b.cfg.Guest, d)
		if err := errors.Join(os.Rename(inGuest, filepath.Join(outside, "moved", d)), os.Symlink(target, inGuest)); err != nil {
			t.Fatal(err)
		}
		tree[d+"/new"] = "3" // nobody knows where that would go
		write(t, b.cfg.Host, files{d + "/new": "3"})
	}
	for n := range 2 {
		r := b.sync()
		if len(r.Changes) != 0 || len(r.Skipped) != len(links) {
			t.Errorf("run %d: changes %+v, skipped %v", n, r.Changes, r.Skipped)
		}
		for _, p := range r.Skipped {
			if links[p.Path] == "" || !errors.Is(p.Err, errLeadsOutside) {
				t.Errorf("skipped %s: %v", p.Path, p.Err)
			}
		}
	}
	if diff := cmp.Diff(tree, read(t, b.cfg.Host)); diff != "" {
		t.Errorf("on the host:\n%s", diff)
	}
	// What was mirrored is still known when it comes back.
	for d := range links {
		inGuest := filepath.Join(b.cfg.Guest, d)
		if err := errors.Join(os.Remove(inGuest), os.Rename(filepath.Join(outside, "moved", d), inGuest), os.Remove(filepath.Join(inGuest, "x"))); err != nil {
			t.Fatal(err)
		}
		delete(tree, d+"/x")
	}
	b.sync()
	b.same()
	if diff := cmp.Diff(tree, read(t, b.cfg.Host)); diff != "" {
		t.Errorf("after it came back:\n%s", diff)
	}
}
