//go:build linux || darwin

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/sshtest"
	"github.com/hostctl/hostctl/sync/mirror"
)

// What the agent does about a mirrored share, and what it cannot, is in its
// status.
func TestMirrors(t *testing.T) {
	t.Parallel()
	sshd := sshtest.Start(t)
	b := newBench(t)
	share := b.folder("www")
	share.Type, share.Server, share.Direction = "sftp", "", "push"
	share.Guest = filepath.Join(b.home, "guest", "www")
	check(t, os.Remove(share.Host))
	b.sharing("core", share)
	dir := filepath.Dir(b.project.MirrorFile("core", share.Name))
	check(t, os.MkdirAll(dir, 0o700))
	b.update(func(s *project.State) {
		ms := s.Machines["core"]
		ms.Mounted = ms.Spec.Shares
		s.Machines["core"] = ms
	})
	b.here(func(c *agent.Config) {
		c.Target = func(string, project.MachineState) (sshclient.Target, error) { return sshd.Target, nil }
	})
	b.sync("core")
	shown := func() agent.Mirror {
		m := b.status().Machines["core"].Mirrors
		if len(m) != 1 || m[0].Name != "www" || m[0].Host != share.Host {
			t.Fatalf("mirrors: %+v", m)
		}
		return m[0]
	}
	// Without its folder nobody mirrors, nor keeps waiting who asks.
	b.until(func() error {
		if m := shown(); !strings.Contains(m.Error, share.Host) {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, _, err := b.client.Mirror(bounded, "core", "www", nil); !errors.Is(err, agent.ErrNotMirrored) {
		t.Fatalf("without the folder: %v", err)
	}
	b.folder("www")
	check(t, os.WriteFile(filepath.Join(share.Host, "first"), []byte("1"), 0o644))
	b.until(func() error {
		if m := shown(); m.State != agent.MirrorWatching || m.Last.IsZero() || m.Error != "" {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})
	copied := func(name string) error {
		_, err := os.Stat(filepath.Join(share.Guest, name))
		return err
	}
	check(t, copied("first"))
	check(t, os.WriteFile(filepath.Join(share.Host, "second"), []byte("2"), 0o644))
	b.until(func() error { return copied("second") })

	// Asked to, it compares: nobody told of what somebody did in the guest.
	check(t, os.WriteFile(filepath.Join(share.Guest, "first"), []byte("edited"), 0o644))
	r, earlier, err := b.client.Mirror(t.Context(), "core", "www", nil)
	if err != nil || !slices.ContainsFunc(r.Changes, func(c mirror.Change) bool { return c.Path == "first" }) {
		t.Errorf("asked to, it did %+v, %v", r, err)
	}
	// What it did by itself is told, too.
	if earlier == nil || earlier.Changes != 1 || earlier.Files != 1 || earlier.Bytes != 1 || earlier.At.IsZero() {
		t.Errorf("earlier it did %+v", earlier)
	}
	if data, err := os.ReadFile(filepath.Join(share.Guest, "first")); err != nil || string(data) != "1" {
		t.Errorf("the guest has %q, %v", data, err)
	}
	for _, unknown := range [][2]string{{"core", "nothing"}, {"other", "www"}} {
		if _, _, err := b.client.Mirror(t.Context(), unknown[0], unknown[1], nil); !errors.Is(err, agent.ErrNotMirrored) {
			t.Errorf("share %q of %q: %v", unknown[1], unknown[0], err)
		}
	}

	// Somebody else's folder is in the way in the guest: it says so, and goes on.
	check(t, os.RemoveAll(share.Guest))
	check(t, os.WriteFile(share.Guest, nil, 0o644))
	check(t, os.WriteFile(filepath.Join(share.Host, "third"), []byte("3"), 0o644))
	b.until(func() error {
		if m := shown(); !strings.Contains(m.Error, share.Guest) {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})
	check(t, os.Remove(share.Guest))
	check(t, os.WriteFile(filepath.Join(share.Host, "fourth"), []byte("4"), 0o644))
	b.until(func() error {
		return errors.Join(copied("first"), copied("second"), copied("third"), copied("fourth"))
	})
	b.until(func() error {
		if m := shown(); m.State != agent.MirrorWatching || m.Error != "" {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})
}
