package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/sshtest"
)

// A guest that loses power comes back without what it had not written to its
// disk, or with empty files: that is not what was done to them there.
func TestGuestLosesPower(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t)
	conn := dial(t, server)
	fresh := files{}
	for n := range 10 {
		fresh[fmt.Sprintf("d/f%d", n)] = fmt.Sprintf("content %d", n)
	}
	empty := func(name string) error { return os.Truncate(name, 0) }
	for _, tt := range []struct {
		name        string
		host, guest files
		cut         bool // in mid-run; else before the guest has synced
		lose        func(name string) error
	}{
		{"sent, and a large file under way", fresh, nil, true, os.Remove},
		{"sent", fresh, nil, false, empty},
		{"fetched", nil, fresh, false, os.Remove},
		{"found on both sides", fresh, fresh, false, os.Remove},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, conn, true)
			b.sync()
			b.conn = unsynced{conn}
			if tt.cut {
				way := &cutting{}
				way.after.Store(2 << 20)
				target := server.Target
				target.Addr = way.listen(t, target.Addr)
				client, err := sshclient.Dial(t.Context(), target)
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				b.conn = client
				write(t, b.cfg.Host, files{"large": strings.Repeat("x", 8<<20)})
			}
			write(t, b.cfg.Host, tt.host)
			write(t, b.cfg.Guest, tt.guest)
			if _, err := Sync(t.Context(), b.conn, b.cfg); !errors.Is(err, sshclient.ErrLost) {
				t.Fatalf("Sync in a guest that is lost: %v", err)
			}
			for name := range fresh {
				if err := tt.lose(filepath.Join(b.cfg.Guest, name)); err != nil {
					t.Fatal(err) // the run was to have come that far
				}
			}
			b.conn = conn
			b.sync()
			have := slices.Collect(maps.Values(read(t, b.cfg.Host)))
			for name, content := range fresh {
				if !slices.Contains(have, content) {
					t.Errorf("%s is lost", name)
				}
			}
		})
	}
}

// unsynced is a guest that is lost when it is to sync.
type unsynced struct{ *sshclient.Client }

func (c unsynced) Exec(ctx context.Context, command string, s sshclient.Streams) (int, error) {
	if strings.Contains(command, "sync -f") {
		return 0, sshclient.ErrLost
	}
	return c.Client.Exec(ctx, command, s)
}

// What comes to the host has its name on the disk before the base says that it
// is there: else a host that loses power would have deleted it.
func TestHostLosesPower(t *testing.T) {
	t.Parallel()
	b := newBench(t, dial(t, sshtest.Start(t)), true)
	write(t, b.cfg.Host, files{"d/old": "", "c/both": "old"})
	b.sync()
	write(t, b.cfg.Guest, files{"d/new": "1", "d/e/link": "-> ../new", "c/both": "guest"})
	write(t, b.cfg.Host, files{"c/both": "the host's"})
	if err := os.Chtimes(filepath.Join(b.cfg.Guest, "c/both"), time.Time{}, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err) // so that the host's goes aside
	}
	root, err := os.OpenRoot(b.cfg.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	g := &guest{conn: b.conn, root: b.cfg.Guest, skip: NewMatcher(nil)}
	defer g.connect(t.Context())()
	failing := errors.New("no")
	var mu sync.Mutex
	var synced []string
	h := &host{root: root, skip: g.skip, syncDir: func(dir string) error {
		mu.Lock()
		defer mu.Unlock()
		synced = append(synced, strings.TrimPrefix(dir, b.cfg.Host))
		return failing
	}}
	r := &run{cfg: b.cfg, ctx: t.Context(), result: &Result{}, host: h, guest: g}
	if err := r.sync(nil); !errors.Is(err, failing) {
		t.Fatalf("it ended with %v, want %v", err, failing)
	}
	slices.Sort(synced)
	if want := []string{"/c", "/d", "/d/e"}; !slices.Equal(synced, want) {
		t.Errorf("%q were synced, want %q", synced, want)
	}
	for _, want := range []bool{false, true} {
		known, err := loadBase(b.cfg.Base)
		if err != nil {
			t.Fatal(err)
		}
		if has := known.pairs["d/new"] != nil; has != want {
			t.Errorf("the base has d/new: %v, want %v", has, want)
		}
		b.sync()
	}
}
