package folder_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/wait"
)

// On a file system that does not answer nothing does, neither what is there nor
// what is not.
func TestHung(t *testing.T) {
	t.Parallel()
	dir, wake := lab.Hung(t)
	l := folder.Looks{Patience: 100 * time.Millisecond}
	sub := filepath.Join(dir, "none")
	for name, err := range map[string]error{
		"at": l.At(t.Context(), dir), "at what is in it": l.At(t.Context(), sub), "make": l.Make(t.Context(), sub),
	} {
		if !errors.Is(err, folder.ErrSilent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wake()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// Looks that were under way say that the file system is gone.
	if err := wait.Until(ctx, time.Millisecond, func(ctx context.Context) error { return l.At(ctx, dir) }); err != nil {
		t.Fatal(err)
	}
	if err := wait.Until(ctx, time.Millisecond, func(ctx context.Context) error { return l.Make(ctx, sub) }); err != nil {
		t.Fatal(err)
	}
}
