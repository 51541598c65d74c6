//go:build linux || darwin

package agent

import (
	"context"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/wait"
)

// A folder on a disk that hangs is said not to answer. It keeps neither the
// shares of others nor the status waiting, however often it is asked for.
func TestFolderThatHangs(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	p, err := project.Open(home, project.Options{StateHome: home})
	must(t, err)
	unlock, err := p.Lock(t.Context(), "test", nil)
	must(t, err)
	_, err = p.ShareKey()
	must(t, err)
	must(t, unlock())

	s := newShares(p, slog.New(slog.DiscardHandler))
	defer s.end()
	hung, wakes := filepath.Join(home, "hung"), make(chan struct{})
	must(t, os.Mkdir(hung, 0o755))
	var looks atomic.Int64
	s.folders.patience = 10 * time.Millisecond
	s.folders.stat = func(dir string) (fs.FileInfo, error) {
		if dir == hung {
			looks.Add(1)
			<-wakes
		}
		return os.Stat(dir)
	}
	of := func(dir string) want {
		return want{listen: netip.MustParseAddr("127.0.0.1"), shares: []project.ShareSpec{{Name: "code", Host: dir}}, owner: 500}
	}
	for range 3 {
		if err := s.set("core-01", of(hung)); err == nil || !strings.Contains(err.Error(), "hung does not answer") {
			t.Errorf("set: %v", err)
		}
	}
	must(t, s.set("core-02", of(home)))
	for machine, want := range map[string]string{"core-01": hung + " does not answer", "core-02": ""} {
		if got := s.status(machine, nil); len(got) != 1 || got[0].Error != want || got[0].Address.Port() == 0 {
			t.Errorf("%s: %+v", machine, got)
		}
	}
	if n := looks.Load(); n != 1 {
		t.Errorf("%d goroutines wait for it", n)
	}
	s.following.Lock() // what changes may wait; who looks does not
	if got := s.status("core-02", nil); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	s.following.Unlock()

	close(wakes)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, wait.Until(ctx, time.Millisecond, func(context.Context) error { return s.set("core-01", of(hung)) }))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
