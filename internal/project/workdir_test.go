package project_test

import "testing"

// The usual case of all: the command runs in the project directory.
func TestLockInWorkingDirectory(t *testing.T) {
	h, dir := newHome(t), realTempDir(t)
	t.Chdir(dir)
	if _, err := h.visit("."); err != nil {
		t.Fatal(err)
	}
	entries, err := h.index().List()
	if err != nil || len(entries) != 1 || entries[0].Dir != dir || entries[0].Stale != "" {
		t.Errorf("List() = %+v, %v; want one entry for %s", entries, err, dir)
	}
}
