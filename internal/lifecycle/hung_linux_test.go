package lifecycle_test

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

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/provider/providertest"
)

// diskPatience is enough for the disk of this computer, which is not idle.
const diskPatience = 5 * time.Second

// hangs makes dir lead to a file system that does not answer.
func hangs(t *testing.T, dir, hung string) {
	t.Helper()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Error(err)
	}
	if err := os.Symlink(hung, dir); err != nil {
		t.Error(err)
	}
}

// wantSilent wants a refusal that points at the share's folder.
func wantSilent(t *testing.T, err error, share, dir string, line int) {
	t.Helper()
	config, ok := errors.AsType[*lifecycle.ConfigError](err)
	if !ok || !errors.Is(err, folder.ErrSilent) {
		t.Fatalf("up: %v", err)
	}
	d := config.Diags[0]
	want := dir + " does not answer. See whether the disk or network drive that it is on is still there (ls " + dir +
		" hangs as well), or take the share out of the machine file."
	if d.Summary != fmt.Sprintf("The folder of share %q does not answer", share) || d.Detail != want || d.Subject.Start.Line != line {
		t.Errorf("line %d: %s: %s", d.Subject.Start.Line, d.Summary, d.Detail)
	}
}

// Folders that do not answer are foreseen, and refused before anything is made.
func TestSharesThatHang(t *testing.T) {
	t.Parallel()
	hung, _ := lab.Hung(t)
	b := newBench(t, strings.ReplaceAll(`
machine "core" {
  count = 2
  image = "dockerhost"
  share "nas" {
    host  = "HUNG"
    guest = "/srv/nas"
  }
  share "new" {
    host   = "HUNG/new"
    guest  = "/srv/new"
    create = true
  }
}
`, "HUNG", hung))
	b.patience = 100 * time.Millisecond
	b.withServing()
	const advice = "see whether the disk or network drive that it is on is still there (ls HUNG hangs as well), or take the share out of the machine file: machine.hcl line "
	var want []string
	for _, machine := range []string{"core-01", "core-02"} {
		want = append(want,
			machine+`: share "nas": HUNG does not answer (`+advice+"6)",
			machine+`: share "new": HUNG/new does not answer (`+strings.Replace(advice, "HUNG", "HUNG/new", 1)+"10)")
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), strings.ReplaceAll(b.foreseen(), hung, "HUNG")); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	err := b.up(t.Context())
	wantSilent(t, err, "nas", hung, 6)
	if text := err.Error(); !strings.Contains(text, `core-01: check host: share "nas": `) || !strings.Contains(text, `core-02: check host: share "nas": `) {
		t.Errorf("up: %v", err)
	}
	b.nothingLeft()
}

// A folder that begins to hang under a machine that runs is not taken to be there.
func TestUpOfAShareThatHangsNow(t *testing.T) {
	t.Parallel()
	hung, _ := lab.Hung(t)
	b := newBench(t, webMachine(shareBlock("code", "create = true")))
	b.patience = diskPatience
	b.withServing()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(b.dir, "code")
	hangs(t, dir, hung)
	wantSilent(t, b.up(t.Context()), "code", dir, 4)
	if !b.state().Machines["core-01"].Ready {
		t.Error("the machine is said not to be ready")
	}
}

// One that begins to hang between the checks and the start keeps the machine down.
func TestStartWithAShareThatHangsNow(t *testing.T) {
	t.Parallel()
	hung, _ := lab.Hung(t)
	b := newBench(t, webMachine(shareBlock("code")))
	b.patience = diskPatience
	b.withServing()
	dir := filepath.Join(b.dir, "code")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b.fake.Before = func(_ context.Context, op providertest.Op, _ string) error {
		if op == providertest.Create {
			hangs(t, dir, hung)
		}
		return nil
	}
	err := b.up(t.Context())
	wantSilent(t, err, "code", dir, 4)
	if step, ok := errors.AsType[*lifecycle.StepError](err); !ok || step.Step != "prepare shares" {
		t.Errorf("up: %v", err)
	}
	if calls := b.fake.Calls(); slices.Contains(calls, "start core-01") {
		t.Errorf("calls: %q", calls)
	}
}

// A folder of the system's server that hangs holds up no other machine, and what others
// give up is withdrawn.
func TestExportsWhereOneHangs(t *testing.T) {
	t.Parallel()
	hung, _ := lab.Hung(t)
	machine := func(name, share string) string {
		return fmt.Sprintf("machine %q {\n  image = \"dockerhost\"\n%s}\n", name, systemShare(share))
	}
	b := newBench(t, machine("a", "code")+machine("b", "more"))
	b.patience = diskPatience
	exported := &exporter{}
	b.exports = exported
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := exported.last(), "code rw [127.0.0.1/32], more rw [127.0.0.1/32]"; got != want {
		t.Errorf("exports %q, want %q", got, want)
	}
	hangs(t, filepath.Join(b.dir, "code"), hung)
	b.events.clear()
	e, _ := b.engine()
	if err := e.Destroy(t.Context(), []string{"b"}); err != nil {
		t.Error(err)
	}
	if got := exported.last(); got != "" {
		t.Errorf("exports %q of a machine that is gone", got)
	}
	if got, want := b.events.notices(), "a: share code is not exported: "+filepath.Join(b.dir, "code")+" does not answer"; got != want {
		t.Errorf("notices %q, want %q", got, want)
	}
}
