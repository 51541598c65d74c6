package mirror

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/sshtest"
)

// bench is a share between two folders of this machine, with a real sshd
// between them.
type bench struct {
	t    testing.TB
	conn Conn
	cfg  Config
}

func newBench(t testing.TB, conn Conn, both bool) *bench {
	t.Helper()
	dir := quick(t)
	b := &bench{t: t, conn: conn, cfg: Config{
		Host: filepath.Join(dir, "host"), Guest: filepath.Join(dir, "guest"), Base: filepath.Join(dir, "base"), Both: both,
	}}
	if err := os.Mkdir(b.cfg.Host, 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

// quick is a directory in memory, where there is one: what is mirrored both ways
// is synced to disk each time.
func quick(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "mirror-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func dial(t testing.TB, s *sshtest.Server) *sshclient.Client {
	t.Helper()
	c, err := sshclient.Dial(t.Context(), s.Target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// sync runs once and wants it to succeed.
func (b *bench) sync() *Result {
	b.t.Helper()
	r, err := Sync(b.t.Context(), b.conn, b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// write makes files, directories ("dir/") and links ("-> target") at a root.
func write(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		full := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(full, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// read is what write was given.
func read(t testing.TB, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		if name == guestDir {
			return fs.SkipDir
		}
		switch d.Type() {
		case fs.ModeDir:
			found[name+"/"] = ""
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			found[name] = "-> " + target
		default:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found[name] = string(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (b *bench) same() {
	b.t.Helper()
	if diff := cmp.Diff(read(b.t, b.cfg.Host), read(b.t, b.cfg.Guest)); diff != "" {
		b.t.Errorf("host and guest differ:\n%s", diff)
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	b := newBench(t, dial(t, sshtest.Start(t)), false)
	write(t, b.cfg.Host, map[string]string{
		"a": "one", "dir/b": "two", "dir/deep/c": "three", "empty/": "", "link": "-> dir/b", "away": "-> /etc/passwd",
		"sp ace/new\nline/\xff\xfe.txt": "bytes", "ünï/ß": "utf", strings.Repeat("long", 40) + "/" + strings.Repeat("name", 50): "x",
		"-rf": "dash", "zero": "",
	})
	at := time.Date(2020, 1, 2, 3, 4, 5, 678901234, time.UTC)
	if err := errors.Join(os.Chmod(filepath.Join(b.cfg.Host, "a"), 0o751), os.Chmod(filepath.Join(b.cfg.Host, "empty"), 0o555),
		os.Chtimes(filepath.Join(b.cfg.Host, "a"), at, at)); err != nil {
		t.Fatal(err)
	}
	began := time.Now().Truncate(time.Second)
	r := b.sync()
	b.same()
	for _, name := range []string{"dir", "dir/deep", "empty", "link"} {
		if info, err := os.Lstat(filepath.Join(b.cfg.Guest, name)); err != nil || info.ModTime().Before(began) {
			t.Errorf("%s is not of now: %v, %v", name, info.ModTime(), err)
		}
	}
	if r.Files != 8 {
		t.Errorf("sent %d files, want 8: %+v", r.Files, r)
	}
	info, err := os.Stat(filepath.Join(b.cfg.Guest, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o751 || !info.ModTime().Equal(at) {
		t.Errorf("a has %v, %v", info.Mode(), info.ModTime())
	}
	for n := range 3 {
		r = b.sync()
		if n > 0 && len(r.Changes) != 0 {
			t.Errorf("run %d with nothing to do did %+v", n+2, r.Changes)
		}
	}
}

// A folder that was mirrored and is gone is rather a disk that is not mounted: it is
// not taken for one whose files were deleted, and making it is for the user.
func TestFolderThatIsGone(t *testing.T) {
	t.Parallel()
	conn := dial(t, sshtest.Start(t))
	for both, advice := range map[bool]string{false: "nothing is deleted for that in the guest", true: "and what it has comes back"} {
		b := newBench(t, conn, both)
		mustSay := func(want string) {
			t.Helper()
			_, err := Sync(t.Context(), conn, b.cfg)
			if err == nil || !strings.Contains(err.Error(), b.cfg.Host+" does not exist") || !strings.HasSuffix(hint.Of(err), want) {
				t.Errorf("both %v: %v (%s)", both, err, hint.Of(err))
			}
		}
		if err := os.Remove(b.cfg.Host); err != nil {
			t.Fatal(err)
		}
		mustSay("run hostctl up")
		write(t, b.cfg.Host, files{"f": "x"})
		b.sync()
		if !Known(b.cfg.Base) {
			t.Error("nothing is known to be mirrored")
		}
		if err := os.Rename(b.cfg.Host, b.cfg.Host+"-away"); err != nil {
			t.Fatal(err)
		}
		mustSay(advice)
		if diff := cmp.Diff(files{"f": "x"}, read(t, b.cfg.Guest)); diff != "" {
			t.Errorf("in the guest: %s", diff)
		}
		if err := os.Rename(b.cfg.Host+"-away", b.cfg.Host); err != nil {
			t.Fatal(err)
		}
		if r := b.sync(); len(r.Changes) != 0 {
			t.Errorf("both %v, back again: %+v", both, r.Changes)
		}
	}
}
