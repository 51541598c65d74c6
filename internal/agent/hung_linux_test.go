package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/wait"
)

// A folder on a disk that hangs is said not to answer. It keeps neither the
// shares of others nor the status waiting, and is served when it wakes.
func TestFolderThatHangs(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	hung, wake := lab.Hung(t)
	s, _ := sharesIn(t, home, func() []string { return nil })
	for range 3 {
		if err := s.set("core-01", wantOf(hung)); !errors.Is(err, folder.ErrSilent) {
			t.Errorf("set: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// A busy disk may be late, too.
	must(t, wait.Until(ctx, time.Millisecond, func(context.Context) error { return s.set("core-02", wantOf(home)) }))
	for machine, want := range map[string]string{"core-01": hung + " does not answer", "core-02": ""} {
		if got := s.status(machine, nil); len(got) != 1 || got[0].Error != want || got[0].Address.Port() == 0 {
			t.Errorf("%s: %+v", machine, got)
		}
	}
	s.following.Lock() // what changes may wait; who looks does not
	if got := s.status("core-02", nil); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	s.following.Unlock()

	wake()
	must(t, wait.Until(ctx, time.Millisecond, func(context.Context) error { return s.set("core-01", wantOf(hung)) }))
}
