package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
)

func TestAt(t *testing.T) {
	t.Parallel()
	var l Looks
	home := t.TempDir()
	file := filepath.Join(home, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir  string
		is   error
		text string
	}{
		{home, nil, "<nil>"},
		{filepath.Join(home, "none"), fs.ErrNotExist, filepath.Join(home, "none") + " does not exist"},
		{file, ErrNotFolder, file + " is not a folder"},
	} {
		if err := l.At(t.Context(), c.dir); !errors.Is(err, c.is) || fmt.Sprint(err) != c.text {
			t.Errorf("%s: %v", c.dir, err)
		}
	}
	deep := filepath.Join(home, "a", "b")
	if err := errors.Join(l.Make(t.Context(), deep), l.Make(t.Context(), deep), l.At(t.Context(), deep)); err != nil {
		t.Error(err)
	}
	if err := l.Make(t.Context(), filepath.Join(file, "b")); err == nil {
		t.Error("a folder in a file")
	}
}

// Folders that hang are waited for together, each by one goroutine, and only until
// they count as silent. One that wakes is looked at anew.
func TestSilentTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		wakes := make(chan struct{})
		l := Looks{stat: func(string) (fs.FileInfo, error) {
			looks.Add(1)
			<-wakes
			return nil, fs.ErrNotExist
		}}
		var dirs []string
		for i := range 10 {
			dirs = append(dirs, fmt.Sprintf("/mnt/%d", i))
		}
		start := time.Now()
		l.Begin(dirs...)
		for range 3 {
			for _, dir := range dirs {
				err := l.At(t.Context(), dir)
				if !errors.Is(err, ErrSilent) || err.Error() != dir+" does not answer" {
					t.Errorf("%v", err)
				}
				if want := "see whether the disk or network drive that it is on is still there (ls " + dir + " hangs as well)"; hint.Of(err) != want {
					t.Errorf("hint %q", hint.Of(err))
				}
			}
		}
		if took := time.Since(start); took != Patience || looks.Load() != 10 {
			t.Errorf("%d goroutines, after %s", looks.Load(), took)
		}
		close(wakes)
		synctest.Wait()
		if err := l.At(t.Context(), dirs[0]); !errors.Is(err, fs.ErrNotExist) || looks.Load() != 11 {
			t.Errorf("awake: %v after %d looks", err, looks.Load())
		}
	})
}

// Who is interrupted waits no longer.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wakes := make(chan struct{})
		defer close(wakes)
		l := Looks{Patience: time.Hour, stat: func(string) (fs.FileInfo, error) {
			<-wakes
			return nil, fs.ErrNotExist
		}}
		stop := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(stop) })
		if err := l.At(ctx, "/mnt"); !errors.Is(err, stop) {
			t.Errorf("%v", err)
		}
	})
}
