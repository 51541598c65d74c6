package main

import (
	"testing"
	"time"
)

// What a run did is said in the same words whoever did it.
func TestSyncedText(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 1, 2, 3, 0, time.UTC)
	change := func(action string) syncedChange { return syncedChange{Action: action} }
	earlier := func(changes, files int, bytes int64) *syncedEarlier {
		return &syncedEarlier{changes, files, bytes, now.Add(-5 * time.Second)}
	}
	for _, tt := range []struct {
		name   string
		done   synced
		dryRun bool
		want   string
	}{
		{"nothing", synced{}, false, "nothing to do"},
		{"nothing would be", synced{}, true, "nothing to do"},
		{"files in a folder", synced{Changes: []syncedChange{change("put"), change("put"), change("put")}, Files: 2, Bytes: 4096}, false,
			"2 files, 4.1kB, 1 of directories and links"},
		{"all kinds", synced{Changes: []syncedChange{change("put"), change("remove"), change("remove"), change("chmod"), change("aside")}, Files: 1, Bytes: 7}, false,
			"1 file, 7B, 2 removed, 1 with other permissions, 1 in conflict, both kept"},
		{"would be", synced{Changes: []syncedChange{change("put"), change("remove")}}, true, "2 changes to make"},
		{"done already", synced{Earlier: earlier(3, 2, 1000)}, false, "nothing to do: the agent mirrored 2 files, 1kB, 5 seconds ago"},
		{"removed already", synced{Earlier: earlier(3, 0, 0)}, false, "nothing to do: the agent mirrored 3 changes, 5 seconds ago"},
		{"done now", synced{Changes: []syncedChange{change("remove")}, Earlier: earlier(3, 2, 1000)}, false, "1 removed"},
	} {
		if got := tt.done.text(tt.dryRun, now); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
