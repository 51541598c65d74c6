package mirror

import (
	"bufio"
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/sshtest"
)

func TestDamagedBase(t *testing.T) {
	t.Parallel()
	b := newBench(t, dial(t, sshtest.Start(t)), false)
	write(t, b.cfg.Host, files{"a": "1"})
	b.sync()
	if err := os.WriteFile(b.cfg.Base, []byte(baseVersion+" x y\nf 1 2"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Sync(t.Context(), b.conn, b.cfg)
	if err == nil || !strings.Contains(err.Error(), b.cfg.Base) || !strings.Contains(hint.Of(err), "delete it") {
		t.Fatalf("%v, hint %q", err, hint.Of(err))
	}
	if err := os.Remove(b.cfg.Base); err != nil {
		t.Fatal(err)
	}
	b.sync()
	b.same()
}

// What is read from a base is what is written to the next.
func FuzzBase(f *testing.F) {
	f.Add([]byte(baseVersion + " 0123 4567\nf 1 420 1700000000000000000 1 384 1700000000000000000 a/b\x00\x00l 0 0 0 0 0 0 c\x00a/b\x00"))
	f.Add([]byte(baseVersion + "  \nd 0 493 0 0 493 0 ..\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		first := &base{pairs: map[string]*pair{}}
		if first.parse(data) != nil {
			return
		}
		for p := range first.pairs {
			if !validPath(p) {
				t.Errorf("path %q", p)
			}
		}
		var written bytes.Buffer
		if err := first.write(&written); err != nil {
			t.Fatal(err)
		}
		again := &base{pairs: map[string]*pair{}}
		if err := again.parse(written.Bytes()); err != nil {
			t.Fatalf("%v: %q", err, written.Bytes())
		}
		if diff := cmp.Diff(first, again, cmp.AllowUnexported(base{}, pair{}, entry{})); diff != "" {
			t.Error(diff)
		}
	})
}

// A guest may say what it likes: no path of it leads out of the share, and each
// is in a folder that was listed.
func FuzzGuestListing(f *testing.F) {
	f.Add("hostctl-mirror 0123 1 1\x00d 755 0 0 d\x00\x00f 644 12 1700000000.1234567890 d/b\x00\x00l 777 1 0 c\x00../..\x00", "")
	f.Add("hostctl-mirror none\x00", "*.tmp")
	f.Add("hostctl-mirror  1 \x00f 644 1 -1.5 ../x\x00\x00", "x")
	f.Fuzz(func(t *testing.T, listing, ignore string) {
		g := &guest{skip: NewMatcher([]string{ignore})}
		found := tree{}
		if g.parse(bufio.NewReader(strings.NewReader(listing)), found) != nil {
			return
		}
		for p, e := range found {
			if !validPath(p) || e.size < 0 || e.mode&^uint32(permissions) != 0 {
				t.Errorf("%q: %+v", p, e)
			}
			if d := parent(p); d != "" && (found[d] == nil || found[d].kind != dir) {
				t.Errorf("%q without its folder", p)
			}
		}
		if g.id != "" && !validID(g.id) {
			t.Errorf("identity %q", g.id)
		}
	})
}
