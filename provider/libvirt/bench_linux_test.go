package libvirt_test

import (
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/lab"
)

// Status on a connection that is open takes milliseconds.
func BenchmarkStatus(b *testing.B) {
	lab.Libvirtd(b)
	where := newPlace("qemu:///system", lab.Socket)
	p := where.provider(b, time.Second)
	if err := p.Create(b.Context(), newDomain(b, "core", b.TempDir())); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := p.Status(b.Context(), "core"); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Delete(b.Context(), "core"); err != nil {
		b.Fatal(err)
	}
}
