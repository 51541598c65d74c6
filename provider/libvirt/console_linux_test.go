package libvirt_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/provider"
)

// A guest that boots is looked at for minutes, and nothing of that may keep libvirtd
// from answering others.
func TestConsoleReadOften(t *testing.T) {
	t.Parallel()
	daemon := lab.Libvirtd(t)
	where := newPlace("qemu:///system", lab.Socket)
	p := where.provider(t, time.Second)
	d := newDomain(t, "core", t.TempDir())
	t.Cleanup(func() {
		if err := p.Delete(context.WithoutCancel(t.Context()), "core"); err != nil {
			t.Error(err)
		}
	})
	if err := p.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context(), "core"); err != nil {
		t.Fatal(err)
	}
	console, _ := provider.As[provider.Console](p)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	longest := 0
	const looks = 500
	for i := range looks {
		r, err := console.Console(ctx, "core")
		if err != nil {
			t.Fatalf("look %d: %v", i, err)
		}
		said, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("look %d: %v", i, err)
		}
		if len(said) < longest {
			t.Fatalf("look %d: %q is shorter than the one before, of %d bytes", i, said, longest)
		}
		longest = len(said)
		_ = r.Close() // read only
		if _, err := p.Status(ctx, "core"); err != nil {
			t.Fatalf("look %d: %v", i, err)
		}
	}
	if longest == 0 {
		t.Error("the guest has said nothing")
	}
	// Whoever looks also says that he has seen the end: else libvirtd keeps two files
	// open for him, as long as the connection lasts. Other tests have some open, too.
	if err := wait.Until(ctx, 10*time.Millisecond, func(context.Context) error {
		if n := daemon.OpenFiles(t); n > looks {
			return fmt.Errorf("libvirtd has %d files open after %d looks", n, looks)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
