package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/sync/exports"
)

// exporter is an NFS server of the host that notes what it is told.
type exporter struct {
	mu      sync.Mutex
	running error
	refuses error
	tail    string   // of paths
	told    []string // what it exports, each time it is told
}

func (e *exporter) Running(context.Context) error      { return e.running }
func (e *exporter) Path(folder string) (string, error) { return "/real" + folder + e.tail, nil }
func (e *exporter) Ensure(_ context.Context, folders []lifecycle.SystemExport) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refuses != nil {
		return e.refuses
	}
	var all []string
	for _, f := range folders {
		access := "rw"
		if f.ReadOnly {
			access = "ro"
		}
		clients := slices.Clone(f.Clients)
		all = append(all, fmt.Sprintf("%s %s %v", filepath.Base(f.Folder), access, slices.Compact(clients)))
	}
	e.told = append(e.told, strings.Join(all, ", "))
	return nil
}

func (e *exporter) last() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.told) == 0 {
		return "nothing was told"
	}
	return e.told[len(e.told)-1]
}

func systemShare(name string) string {
	return fmt.Sprintf(`
share %q {
  host   = %q
  guest  = "/srv/%s"
  server = "system"
  create = true
}
`, name, name, name)
}

// The host's server exports what the file says, also what a guest has mounted still,
// and nothing after the last machine.
func TestSystemExports(t *testing.T) {
	t.Parallel()
	const machines = `
machine "core" {
  count = 2
  image = "dockerhost"
}
`
	b := newBench(t, machines+systemShare("code")+systemShare("more"))
	e := &exporter{}
	b.exports = e
	up := func(want string) {
		t.Helper()
		if err := b.up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := e.last(); got != want {
			t.Errorf("exports %q, want %q", got, want)
		}
	}
	up("code rw [127.0.0.1/32], more rw [127.0.0.1/32]")
	// A second up has it looked after, though nothing else is to do.
	e.told = nil
	up("code rw [127.0.0.1/32], more rw [127.0.0.1/32]")

	// A share that leaves the file is exported until every guest has let go.
	e.told = nil
	b.edit(machines + systemShare("code"))
	up("code rw [127.0.0.1/32]")
	if e.told[0] != "code rw [127.0.0.1/32], more rw [127.0.0.1/32]" {
		t.Errorf("taken away from guests that have it mounted: %q", e.told)
	}
	b.edit(machines)
	up("")

	b.edit(machines + systemShare("code"))
	up("code rw [127.0.0.1/32]")
	if err := b.destroy(); err != nil || e.last() != "" {
		t.Errorf("%v, and %q is left", err, e.last())
	}
}

// Without such shares nobody asks the server anything on the way up.
func TestNoSystemExports(t *testing.T) {
	t.Parallel()
	b := newBench(t, `machine "core" { image = "dockerhost" }`)
	e := &exporter{refuses: errors.New("never to be called"), running: exports.ErrNotInstalled}
	b.exports = e
	if err := b.up(t.Context()); err != nil {
		t.Error(err)
	}
}

// A server that is not there is found out before anything is made, with the line.
func TestNoServerToExport(t *testing.T) {
	t.Parallel()
	b := newBench(t, `machine "core" { image = "dockerhost" }`+systemShare("code"))
	b.exports = &exporter{running: hint.Wrap(exports.ErrNotInstalled, "install it")}
	err := b.up(t.Context())
	config, ok := errors.AsType[*lifecycle.ConfigError](err)
	if !ok || !errors.Is(err, exports.ErrNotInstalled) {
		t.Fatalf("%v", err)
	}
	d := config.Diags[0]
	if d.Detail != "The system's NFS server is not installed. Install it." || d.Subject.Start.Line != 5 {
		t.Errorf("%+v", d)
	}
	if len(b.state().Machines) > 0 {
		t.Error("a machine was made")
	}
}

// An export that is refused fails the machine, and destroy, which then can be
// repeated.
func TestExportRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, `machine "core" { image = "dockerhost" }`+systemShare("code"))
	e := &exporter{refuses: exports.ErrNotAllowed}
	b.exports = e
	if err := b.up(t.Context()); !errors.Is(err, exports.ErrNotAllowed) {
		t.Errorf("%v", err)
	}
	if err := b.destroy(); !errors.Is(err, exports.ErrNotAllowed) {
		t.Errorf("%v", err)
	}
	e.refuses = nil
	if err := b.destroy(); err != nil || e.last() != "" {
		t.Errorf("%v %q", err, e.last())
	}
}

// What systemd would read as something else is not given to it.
func TestPathThatCannotBeMounted(t *testing.T) {
	t.Parallel()
	for _, tail := range []string{"\nOptions=rw", `\`, " "} {
		b := newBench(t, `machine "core" { image = "dockerhost" }`+systemShare("code"))
		b.exports = &exporter{tail: tail}
		err := b.up(t.Context())
		if err == nil || !strings.Contains(err.Error(), "cannot be mounted: it has a control character") || !strings.Contains(hint.Of(err), "embedded") {
			t.Errorf("%q: %v", tail, err)
		}
	}
}
