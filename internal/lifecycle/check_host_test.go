package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/mem"

	"github.com/hostctl/hostctl/internal/lifecycle"
)

// foreign is an architecture that this host's processors are not of.
func foreign() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

// How a guest runs is said when it starts, and not of each change.
func TestEmulationIsSaidOfStarts(t *testing.T) {
	t.Parallel()
	file := func(port int) string {
		return fmt.Sprintf(`
image "other" {
  source = "dockerhost"
  arch   = %q
}
machine "core" {
  image = image.other
  forward "web" {
    guest = %d
    host = 18081
    auto_correct = true
  }
}
`, foreign(), port)
	}
	b := newBench(t, file(80))
	b.fake.Accel = "kvm"
	up := func() string {
		t.Helper()
		b.events.clear()
		if err := b.up(t.Context()); err != nil {
			t.Fatal(err)
		}
		return b.events.notices()
	}
	const said = " guests are emulated"
	if got := up(); !strings.Contains(got, said) {
		t.Errorf("at first: notices %q", got)
	}
	b.edit(file(81))
	if got := up(); strings.Contains(got, said) {
		t.Errorf("of a machine that runs: notices %q", got)
	}
	e, _ := b.engine()
	if err := e.Halt(t.Context(), []string{"core"}); err != nil {
		t.Fatal(err)
	}
	if got := up(); !strings.Contains(got, said) {
		t.Errorf("after halt: notices %q", got)
	}
}

// A guest of another architecture is emulated on a host with KVM too: that is
// said once, and its waits are the long ones.
func TestForeignGuestsAreEmulated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, machineFile, imported string }{
		{"as the file says", `
image "other" {
  source = "dockerhost"
  arch   = "` + foreign() + `"
}
machine "core" {
  count = 2
  image = image.other
}
`, ""},
		{"as only the cache knows", `
machine "core" {
  count = 2
  image = "dockerhost"
}
`, foreign()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.machineFile)
			b.fake.Accel = "kvm"
			if c.imported != "" {
				b.images.arch = c.imported
			}
			b.guests.ssh = func(ctx context.Context) error {
				if end, ok := ctx.Deadline(); !ok || time.Until(end) < 9*time.Minute {
					t.Errorf("waits until %s only", end)
				}
				return nil
			}
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, want := b.events.notices(), foreign()+" guests are emulated"; got != want {
				t.Errorf("notices %q, want %q", got, want)
			}
		})
	}
}

// An accelerator that the guest cannot have is refused at its value, before
// the image is fetched and anything is made.
func TestImpossibleAccelIsRefusedFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t, `
image "other" {
  source = "dockerhost"
  arch   = "`+foreign()+`"
}
machine "core" {
  image = image.other
  accel = "kvm"
}
`)
	b.images.err = errors.New("the image was fetched")
	err := b.up(t.Context())
	config, ok := errors.AsType[*lifecycle.ConfigError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	if at := config.Diags[0].Subject; at.Start.Line != 8 {
		t.Errorf("points at line %d, not at accel", at.Start.Line)
	}
	if _, err := os.Stat(filepath.Join(b.dir, ".hostctl")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

// Machines that fit one by one and not together are worth a word, no more.
func TestMemoryOfAllMachines(t *testing.T) {
	t.Parallel()
	vm, err := mem.VirtualMemory()
	if err != nil {
		t.Fatal(err)
	}
	most := vm.Total >> 20
	b := newBench(t, fmt.Sprintf("machine \"core\" {\n  count = 2\n  image = \"dockerhost\"\n  memory = \"%dMiB\"\n}\n", most*3/4))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.events.notices(); !strings.Contains(got, "these 2 machines ask for ") {
		t.Errorf("notices %q", got)
	}
}
