package libvirt_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/provider"
)

// A guest that boots is looked at for minutes, and nothing of that may keep libvirtd
// from answering others.
func TestConsoleReadOften(t *testing.T) {
	t.Parallel()
	lab.Libvirtd(t)
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
	for i := range 500 {
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
}
