package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
)

// serving is an agent that serves shares, on paper.
type serving struct {
	*agentFake
	port  uint16
	wants []string // what it had to serve at each call: "code", or "code data"
}

func (a *serving) Sync(ctx context.Context, machine string) error {
	if err := a.agentFake.Sync(ctx, machine); err != nil {
		return err
	}
	var names []string
	for _, s := range a.b.state().Machines[machine].Served() {
		names = append(names, s.Name)
	}
	a.wants = append(a.wants, strings.Join(names, " "))
	e, _ := a.b.engine()
	loopback := netip.MustParseAddr("127.0.0.1")
	if ports, err := e.Project.SharePorts(); err != nil || ports[loopback] == a.port {
		return err
	}
	return e.Project.KeepSharePorts(map[netip.Addr]uint16{loopback: a.port})
}

func (b *bench) withServing() *serving {
	a := &serving{agentFake: &agentFake{b: b}, port: 21000}
	b.agent = a
	return a
}

// shareBlock is one whose folder is beside the machine file.
func shareBlock(name string, more ...string) string {
	return "share \"" + name + "\" {\n host = \"" + name + "\"\n guest = \"/srv/" + name + "\"\n" + strings.Join(more, "\n") + "\n}"
}

func TestUpMountsShares(t *testing.T) {
	t.Parallel()
	b := newBench(t, webMachine(shareBlock("code", "create = true")))
	agent := b.withServing()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"check host", "fetch image", "assign ports", "render config", "create machine", "prepare shares",
		"start machine", "wait for SSH", "mount shares", "wait for Docker", "done",
	}
	if diff := cmp.Diff(want, b.events.steps("core-01")); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(filepath.Join(b.dir, "code")); err != nil || !info.IsDir() {
		t.Errorf("the folder was not made: %v", err)
	}
	if n := len(b.guests.mounts); n != 1 || !strings.Contains(b.guests.mounts[0], "Where=/srv/code\n") || !strings.Contains(b.guests.mounts[0], "port=21000") {
		t.Fatalf("scripts: %q", b.guests.mounts)
	}

	// Nothing to do, and nothing is said to the guest.
	before := tree(t, b.dir)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(b.guests.mounts); n != 1 {
		t.Errorf("an idle up ran %d scripts", n-1)
	}
	if diff := cmp.Diff(before, tree(t, b.dir)); diff != "" {
		t.Error(diff)
	}

	// The agent had to move: the guest is told.
	agent.port = 21001
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(b.guests.mounts); n != 2 || !strings.Contains(b.guests.mounts[1], "port=21001") {
		t.Fatalf("%d scripts", n)
	}

	// Another share comes in the place of the first, in place.
	b.edit(webMachine(shareBlock("data", "create = true", `mount_options = ["noatime"]`)))
	e, config := b.engine()
	plans, err := e.Plan(t.Context(), config.Machines, config.Machines)
	if err != nil {
		t.Fatal(err)
	}
	dir := func(name string) string { return filepath.Join(e.Project.Dir(), name) }
	wantChanges := []lifecycle.Change{
		{Field: "share code", From: "nfs of " + dir("code") + " at /srv/code", Takes: lifecycle.UpdateAction},
		{Field: "share data", To: "nfs of " + dir("data") + " at /srv/data, with noatime", Takes: lifecycle.UpdateAction},
	}
	if diff := cmp.Diff(wantChanges, plans[0].Changes); diff != "" || plans[0].Action != lifecycle.UpdateAction {
		t.Errorf("%s: %s", plans[0].Action, diff)
	}
	agent.wants = nil
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(b.guests.mounts); n != 3 || strings.Contains(b.guests.mounts[2], "/srv/code") || !strings.Contains(b.guests.mounts[2], "noatime") {
		t.Fatalf("scripts: %q", b.guests.mounts)
	}
	// What the guest had mounted was served until it was not mounted any more.
	i := slices.Index(agent.wants, "data code")
	if i < 0 || !slices.Contains(agent.wants[i:], "data") || slices.Contains(agent.wants[:i], "data") {
		t.Errorf("served %q", agent.wants)
	}
	if boots := b.state().Machines["core-01"]; len(boots.Mounted) != 1 || !boots.Ready || !boots.SharesLeft {
		t.Errorf("state %+v", boots)
	}

	b.edit(webMachine())
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Containers may have it still: the agent stays for them until the machine
	// is halted, and is started again when it died.
	if ms := b.state().Machines["core-01"]; !ms.SharesLeft || !ms.AsksServer() {
		t.Errorf("state %+v", ms)
	}
	if n := len(b.guests.mounts); n != 4 || strings.Contains(b.guests.mounts[3], "Where=") {
		t.Errorf("scripts: %q", b.guests.mounts)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(b.guests.mounts); n != 4 {
		t.Errorf("without shares, up still ran %d scripts", n-4)
	}
	e, _ = b.engine()
	if err := e.Halt(t.Context(), b.names()); err != nil {
		t.Fatal(err)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ms := b.state().Machines["core-01"]; ms.AsksServer() {
		t.Errorf("after a halt, nobody can have a share: %+v", ms)
	}
	if err := b.destroy(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"code", "data"} { // the user's, not the project's
		if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
			t.Error(err)
		}
	}
	b.nothingLeft()
}

// A mount that failed is tried again by the next up, with all that was not
// reached.
func TestUpAfterAMountThatFailed(t *testing.T) {
	t.Parallel()
	b := newBench(t, webMachine(shareBlock("code", "create = true")))
	b.withServing()
	boom := errors.New("exit status 1: srv-code.mount: refused")
	b.guests.exec = boom
	if err := b.up(t.Context()); !errors.Is(err, boom) {
		t.Fatalf("up: %v", err)
	}
	if ms := b.state().Machines["core-01"]; ms.Ready || ms.MountsSum != "" {
		t.Errorf("state %+v", ms)
	}
	b.guests.exec = nil
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(b.guests.mounts); n != 2 {
		t.Errorf("%d scripts", n)
	}
}

// A guest that stands still after it has booted is asked again.
func TestUpAfterAMountWithoutAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t, webMachine(shareBlock("code", "create = true")))
	b.withServing()
	b.guests.silent = 1
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(b.guests.mounts); n != 1 {
		t.Errorf("%d scripts", n)
	}
}

// A folder that is taken away from a running guest is missed, or made again.
func TestUpMissesFolders(t *testing.T) {
	t.Parallel()
	b := newBench(t, webMachine(shareBlock("code"), shareBlock("made", "create = true")))
	b.withServing()
	folder := func(name string) string { return filepath.Join(b.dir, name) }
	if err := os.Mkdir(folder("code"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"made", "code"} {
		if err := os.Remove(folder(name)); err != nil {
			t.Fatal(err)
		}
	}
	config, ok := errors.AsType[*lifecycle.ConfigError](b.up(t.Context()))
	if !ok || config.Diags[0].Summary != "Folder is missing" {
		t.Fatalf("up: %v", config)
	}
	if at := b.state().Machines["core-01"]; !at.Ready {
		t.Errorf("state %+v", at)
	}
	if err := os.Mkdir(folder("code"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder("made")); err != nil {
		t.Error(err)
	}
	if n := len(b.guests.mounts); n != 2 {
		t.Errorf("%d scripts, want one for each up that did something", n)
	}
}

// The guest unmounts while somebody serves.
func TestHaltHasSharesServed(t *testing.T) {
	t.Parallel()
	b := newBench(t, webMachine(shareBlock("code", "create = true")))
	agent := b.withServing()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	agent.syncs = nil
	var running []bool
	b.fake.Before = func(_ context.Context, op providertest.Op, _ string) error {
		if op == providertest.Stop {
			running = append(running, len(agent.syncs) > 0)
		}
		return nil
	}
	e, _ := b.engine()
	if err := e.Halt(t.Context(), b.names()); err != nil {
		t.Fatal(err)
	}
	if len(running) != 1 || !running[0] {
		t.Errorf("the agent was not asked for before the guest went down: %v", running)
	}
}

func TestSharesThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, block string
		provider    func(b *bench) provider.Provider
		summary     string
		detail      []string
		line        int
	}{
		{
			name: "missing folder", block: shareBlock("code"),
			summary: "Folder is missing", detail: []string{"code does not exist.", "create = true"}, line: 4,
		},
		{
			name: "file", block: shareBlock("machine.hcl"),
			summary: "Folder is a file", detail: []string{"machine.hcl is not a folder."}, line: 4,
		},
		{
			name: "elsewhere", block: shareBlock("code", "create = true"),
			provider: func(b *bench) provider.Provider {
				return struct {
					provider.Provider
					provider.Forwarder
				}{b.fake, b.fake}
			},
			summary: "The guest does not reach this computer", detail: []string{"do not reach this computer", `type = "sftp"`}, line: 5,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := strings.Replace(c.block, `share "machine.hcl"`, `share "file"`, 1)
			b := newBench(t, webMachine(name))
			b.withServing()
			if c.provider != nil {
				b.provider = c.provider(b)
			}
			err := b.up(t.Context())
			config, ok := errors.AsType[*lifecycle.ConfigError](err)
			if !ok {
				t.Fatalf("up: %v", err)
			}
			d := config.Diags[0]
			if d.Summary != c.summary || d.Subject.Start.Line != c.line {
				t.Errorf("%q at line %d, want %q at %d", d.Summary, d.Subject.Start.Line, c.summary, c.line)
			}
			for _, part := range c.detail {
				if !strings.Contains(d.Detail, part) {
					t.Errorf("%q lacks %q", d.Detail, part)
				}
			}
			// Readers of the event stream see neither the summary nor the line.
			failed := b.events.all[len(b.events.all)-1]
			if failed.Kind != lifecycle.MachineFailed || !strings.HasSuffix(failed.Hint, fmt.Sprintf(": machine.hcl line %d", c.line)) {
				t.Errorf("the machine's last event is %+v", failed)
			}
			b.nothingLeft()
		})
	}
}

// A mirrored folder that is gone is not made anew, be it wanted: the disk that it is
// on may not be mounted.
func TestUpMakesNoFolderThatIsGone(t *testing.T) {
	t.Parallel()
	b := newBench(t, webMachine(shareBlock("www", "create = true", `type = "sftp"`)))
	b.withServing()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, _ := b.engine()
	folder, base := filepath.Join(b.dir, "www"), e.Project.MirrorFile("core-01", "www")
	away := func() {
		t.Helper()
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
	}
	away()
	if err := b.up(t.Context()); err != nil { // nothing was in it
		t.Fatal(err)
	}
	if err := os.WriteFile(base, []byte("hostctl mirror 1 g r\nf 1 420 0 0 420 0 a\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	away()
	refused := func() {
		t.Helper()
		config, ok := errors.AsType[*lifecycle.ConfigError](b.up(t.Context()))
		if !ok || config.Diags[0].Summary != "Folder is gone" || !strings.Contains(config.Advice, "mount the disk") {
			t.Errorf("up: %+v", config)
		}
		if _, err := os.Stat(folder); err == nil {
			t.Error("it was made")
		}
	}
	refused()
	if err := e.Halt(t.Context(), b.names()); err != nil {
		t.Fatal(err)
	}
	refused()
	// Another folder is not the one that is gone.
	b.edit(strings.Replace(webMachine(shareBlock("www", "create = true", `type = "sftp"`)), `host = "www"`, `host = "other"`, 1))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// All shares that cannot be are told of at once.
func TestSharesThatCannotBeTogether(t *testing.T) {
	t.Parallel()
	b := newBench(t, webMachine(shareBlock("code"), shareBlock("made", "create = true"), shareBlock("docs"), shareBlock("data")))
	b.withServing()
	config, ok := errors.AsType[*lifecycle.ConfigError](b.up(t.Context()))
	if !ok {
		t.Fatal("up is not refused")
	}
	var lines []int
	for _, d := range config.Diags {
		lines = append(lines, d.Subject.Start.Line)
	}
	if want := []int{4, 14, 19}; !slices.Equal(lines, want) {
		t.Errorf("lines %d, want %d", lines, want)
	}
	failed := b.events.all[len(b.events.all)-1]
	for _, name := range []string{"code", "docs", "data"} {
		if !strings.Contains(failed.Error, fmt.Sprintf("share %q", name)) {
			t.Errorf("%q lacks %s", failed.Error, name)
		}
	}
	if strings.Count(failed.Hint, "machine.hcl line") != 3 {
		t.Errorf("hint %q", failed.Hint)
	}
}

// What the state says decides about paths that are served: it is checked.
func TestStateWithAStrangeShare(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, _ := b.engine()
	unlock, err := e.Project.Lock(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	err = e.Project.Update(func(s *project.State) error {
		ms := s.Machines["core-01"]
		ms.Spec.Shares = []project.ShareSpec{{Name: "../x", Host: "/tmp"}}
		s.Machines["core-01"] = ms
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), `share "../x"`) {
		t.Errorf("update: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}

// Containers keep what was mounted when they were started.
func TestUpSaysWhatContainersKeep(t *testing.T) {
	t.Parallel()
	b := newBench(t, webMachine(shareBlock("code", "create = true"), shareBlock("data", "create = true")))
	b.withServing()
	ups := func(want string) {
		t.Helper()
		b.events.clear()
		if err := b.up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := b.events.notices(); got != want {
			t.Errorf("notices %q, want %q", got, want)
		}
	}
	ups("")
	const kept = "core-01 containers that run with %s have it as it was mounted before, and may find it stale: docker restart them"
	b.edit(webMachine(shareBlock("code", "create = true", "readonly = true"), shareBlock("data", "create = true", "events = false")))
	ups(fmt.Sprintf(kept, "/srv/code"))
	ups("")
	b.edit(webMachine(shareBlock("code", "create = true"), shareBlock("data", "create = true", `mount_options = ["actimeo=3"]`)))
	ups(fmt.Sprintf(kept, "/srv/code, /srv/data"))
	b.edit(webMachine(shareBlock("code", "create = true")))
	ups("")
}
