package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/sshtest"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/sync/mirror"
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
		{"done already", synced{Earlier: earlier(3, 2, 1000)}, false, "nothing to do: 5 seconds ago the agent mirrored 2 files, 1kB"},
		{"removed already", synced{Earlier: earlier(3, 0, 0)}, false, "nothing to do: 5 seconds ago the agent mirrored 3 changes"},
		{"done now", synced{Changes: []syncedChange{change("remove")}, Earlier: earlier(3, 2, 1000)}, false, "1 removed"},
	} {
		if got := tt.done.text(tt.dryRun, now); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "a moment ago", 900 * time.Millisecond: "a moment ago", 5 * time.Second: "5 seconds ago", 61 * time.Minute: "about an hour ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("ago(%v) = %q, want %q", d, got, want)
		}
	}
}

// sync --watch says what it watches, and of each change where it went.
func TestWatchedText(t *testing.T) {
	t.Parallel()
	share := func(machine, name string, both bool) syncing {
		return syncing{machine: &one{name: machine}, share: &machinefile.Share{Name: name}, config: mirror.Config{Both: both}}
	}
	code := share("core-01", "code", true)
	want := "share code (both ways: core-01, core-02), share lib (to the guest: core-01)"
	if got := watchedText([]syncing{code, share("core-01", "lib", false), share("core-02", "code", true)}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for name, want := range map[string]bool{"code": true, "lib": false} {
		s := agent.Status{Machines: map[string]agent.MachineStatus{"core-01": {Mirrors: []agent.Mirror{{Name: name}}}}}
		if got := agentMirrors(s, []syncing{code, share("core-02", "lib", false)}); got != want {
			t.Errorf("the agent that mirrors %s for core-01 mirrors what is watched: %t", name, got)
		}
	}
	on := func(sides ...string) (out synced) {
		for _, side := range sides {
			out.Changes = append(out.Changes, syncedChange{Action: "remove", On: side})
		}
		return out
	}
	for want, out := range map[string]synced{
		"share code to the guest: 1 removed":   on("guest"),
		"share code from the guest: 2 removed": on("host", "host"),
		"share code both ways: 2 removed":      on("guest", "host"),
	} {
		if got := code.changedText(out, time.Now()); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The folder of a share is made when it is mirrored first, and said; never again.
func TestSyncMakesFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, err := project.Open(dir, project.Options{StateHome: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	a := newApp(nil, streams{strings.NewReader(""), nil, &errs}, nil)
	share := &machinefile.Share{Name: "www", Type: machinefile.SFTP, Host: filepath.Join(dir, "www"), Create: true}
	m := &one{project: p, name: "core", state: project.MachineState{Mounted: []project.ShareSpec{{Name: "www", Type: "sftp", Host: share.Host}}}}
	made := func(said string) {
		t.Helper()
		errs.Reset()
		if err := a.makeFolder(t.Context(), m, share); err != nil || errs.String() != said {
			t.Errorf("%v, %q, want %q", err, errs.String(), said)
		}
	}
	made("notice: core: share www: made " + share.Host + "\n")
	made("")
	base := p.MirrorFile("core", "www")
	err = errors.Join(os.Remove(share.Host), os.MkdirAll(filepath.Dir(base), 0o700),
		os.WriteFile(base, []byte("hostctl mirror 1 g r\nf 1 420 0 0 420 0 a\x00\x00"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	made("")
	if _, err := os.Stat(share.Host); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
}

// A share that is no longer watched is said at once while any other is, be it
// another machine's. The last one is said by the end.
func TestWatchGivesUp(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t)
	var out, talk bytes.Buffer
	a := newApp(nil, streams{strings.NewReader(""), &out, &talk}, nil)
	dir := t.TempDir()
	var said []error
	left := &leftovers{n: 2, warn: func(err error) { said = append(said, err) }}
	watch := func(machine string) error {
		client, err := sshclient.Dial(t.Context(), server.Target)
		if err != nil {
			t.Fatal(err)
		}
		gone := syncing{machine: &one{name: machine}, share: &machinefile.Share{Name: "www"}, config: mirror.Config{
			Host: filepath.Join(dir, "gone"), Guest: filepath.Join(dir, machine), Base: filepath.Join(dir, machine+".base"),
		}}
		return errors.Join(a.watchConnected(t.Context(), sshclient.NewSessions(client), []syncing{gone}, left)...)
	}
	err := watch("core-01")
	if !errors.Is(err, fs.ErrNotExist) || len(said) != 1 || said[0].Error() != err.Error() {
		t.Errorf("it ended with %v, and said was %v", err, said)
	}
	if err := watch("core-02"); !errors.Is(err, fs.ErrNotExist) || len(said) != 1 {
		t.Errorf("the last one: it ended with %v, and said was %v", err, said[1:])
	}
	if talk.Len() > 0 {
		t.Errorf("it said more: %s", &talk)
	}
}

// A machine that stopped gives up all its shares.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	var said []error
	left := &leftovers{n: 4, warn: func(err error) { said = append(said, err) }}
	left.giveUp(3, context.Canceled)
	left.giveUp(1, context.DeadlineExceeded)
	if len(said) != 1 || !errors.Is(said[0], context.Canceled) {
		t.Errorf("said was %v", said)
	}
}
