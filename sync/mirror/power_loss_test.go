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
	"testing"

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
