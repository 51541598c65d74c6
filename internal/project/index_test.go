package project_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/project"
)

func TestIndex(t *testing.T) {
	t.Parallel()
	h, parent := newHome(t), realTempDir(t)
	if entries, err := h.index().List(); err != nil || len(entries) != 0 {
		t.Fatalf("List() of none = %v, %v", entries, err)
	}
	ok := h.make(parent, "ok")
	gone := h.make(parent, "gone")
	empty := h.make(parent, "empty")
	other := h.make(parent, "other")
	sick := h.make(parent, "sick")
	if err := os.RemoveAll(gone.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(empty.StateDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(other.StateDir()); err != nil {
		t.Fatal(err)
	}
	replaced, err := h.visit(other.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sick.StateDir(), "state.json"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Its entry went with the state; an Add that was killed leaves it.
	if entries, err := h.index().List(); err != nil || len(entries) != 5 {
		t.Errorf("List() with a replaced project = %v, %v; want five", entries, err)
	}
	projects := filepath.Join(h.options.StateHome, "hostctl", "projects")
	const damaged = "0123456789ab"
	for name, content := range map[string]string{
		damaged + ".json":           `{"id":"../..","dir":"x"}`,
		other.ID() + ".json":        fmt.Sprintf(`{"id":%q,"dir":%q,"updated":"2026-01-02T03:04:05Z"}`, other.ID(), other.Dir()),
		".abc.json-123.tmp":         "a killed Add",
		"README":                    "a user's",
		"not-an-id-but-a-note.json": "{}",
	} {
		if err := os.WriteFile(filepath.Join(projects, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	want := map[string]string{
		ok.ID():    "",
		sick.ID():  "", // needs help, and is there
		replaced:   "",
		gone.ID():  "the directory is gone",
		empty.ID(): "the directory has no machines any more",
		other.ID(): "the directory holds another project",
		damaged:    "the entry is damaged",
	}
	entries, err := h.index().List()
	if err != nil || len(entries) != len(want) {
		t.Errorf("List() = %v, %v", entries, err)
	}
	for _, e := range entries {
		if stale, ok := want[e.ID]; !ok || e.Stale != stale {
			t.Errorf("%s (%s): stale %q, want %q", e.ID, e.Dir, e.Stale, stale)
		}
		if e.Updated.IsZero() && e.ID != damaged {
			t.Errorf("%s: no time", e.ID)
		}
	}
	pruned, err := h.index().Prune()
	if err != nil || len(pruned) != 4 {
		t.Errorf("Prune() = %v, %v; want four", pruned, err)
	}
	entries, err = h.index().List()
	if err != nil || len(entries) != 3 {
		t.Errorf("List() after Prune() = %v, %v; want three", entries, err)
	}
}

func TestDestroyLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	dir := t.TempDir()
	p, unlock := h.locked(dir)
	if err := p.MakeMachineDir("core-01"); err != nil {
		t.Fatal(err)
	}
	_, err := p.HostKey("core-01")
	_, keysErr := p.Keys()
	run, runErr := p.RunDir()
	if err := errors.Join(err, keysErr, runErr,
		os.WriteFile(filepath.Join(run, "qmp.sock"), nil, 0o600),
		os.WriteFile(filepath.Join(h.options.StateHome, "hostctl", "projects", "."+p.ID()+".json-1.tmp"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if err := p.Destroy(); err != nil {
		t.Fatal(err)
	}
	unlock()
	if p.ID() != "" || p.Exists() {
		t.Errorf("ID() = %q, Exists() = %v", p.ID(), p.Exists())
	}
	got := tree(t, dir) + tree(t, h.options.RuntimeDir) + tree(t, h.options.StateHome)
	if got != "" {
		t.Errorf("left %s", got)
	}
	if err := p.Destroy(); !errors.Is(err, project.ErrNotLocked) {
		t.Errorf("Destroy without a lock: %v", err)
	}
}
