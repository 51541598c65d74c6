package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/sync/mirror"
)

// A share that works but for file changes is warned of, and not called broken.
func TestStatusOfAShareThatIsNotTold(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	a := newApp(nil, streams{in: strings.NewReader(""), out: &out, err: &errs}, nil)
	code := project.ShareSpec{Name: "code", Type: "nfs", Host: "/src", Guest: "/src", Server: "embedded"}
	by := agent.MachineStatus{Shares: []agent.Share{{Name: "code", Host: "/src", Notice: "the guest is not told"}}}
	s := machineStatus{Shares: []machineShare{shareOf("core-01", project.MachineState{}, code, nil, by, nil)}}
	s.Name = "core-01"
	if err := a.showStatus([]machineStatus{s}); err != nil {
		t.Fatal(err)
	}
	const want = "warning: core-01: share \"code\": the guest is not told\n"
	if errs.String() != want || !strings.HasSuffix(out.String(), " /src\n") {
		t.Errorf("%s%s", out.String(), errs.String())
	}
}

// A share that only the machine file has is wrong where the machine runs.
func TestStatusOfAShareToApply(t *testing.T) {
	t.Parallel()
	m := &machinefile.Machine{Shares: []machinefile.Share{{Name: "code"}, {Name: "data"}}}
	later := sharesToApply(m, project.MachineState{Spec: project.Spec{Shares: []project.ShareSpec{{Name: "code"}}}})
	if len(later) != 1 || later[0].Name != "data" {
		t.Fatalf("to apply: %+v", later)
	}
	for _, down := range []bool{true, false} {
		got := (&shareFacts{name: "core-01", down: down}).unapplied(later[0])
		if got.State != "not applied" || (got.Error == "") != down || (got.Hint == "") != down {
			t.Errorf("down %v: %+v", down, got)
		}
	}
}

// What is wrong with a share is said nearest to its cause.
func TestShareStatus(t *testing.T) {
	t.Parallel()
	code := project.ShareSpec{Name: "code", Type: "nfs", Host: "/src", Guest: "/home/core/my code", Server: "embedded"}
	data := project.ShareSpec{Name: "data", Type: "nfs", Host: "/data", Guest: "/data", Server: "system"}
	www := project.ShareSpec{Name: "www", Type: "sftp", Host: "/www", Guest: "/srv/www", Direction: "push"}
	addr := netip.MustParseAddrPort("127.0.0.1:20345")
	none := func(string) error { return nil }
	// The agent serves it, and the guest has it.
	fine := func() *shareFacts {
		f := &shareFacts{
			name: "core-01", family: image.Guest{Family: "dockerhost", Home: "/home/core"}, told: []project.ShareSpec{code, data, www},
			serving: agent.MachineStatus{
				Shares:  []agent.Share{{Name: "code", Host: "/src", Address: addr}},
				Mirrors: []agent.Mirror{{Name: "www", Host: "/www", State: agent.MirrorWatching}},
			}, hostErr: none,
		}
		f.read(`10.0.2.2:/x/code /home/core/my\040code nfs rw,vers=3 0 0
10.0.2.2:/data /data nfs4 rw 0 0
tmpfs /srv/www tmpfs rw 0 0
folder /srv/www
`)
		return f
	}
	for _, tt := range []struct {
		name   string
		share  project.ShareSpec
		change func(f *shareFacts)
		want   shareStatus // its words only
	}{
		{"mounted", code, func(*shareFacts) {}, shareStatus{State: "mounted", Server: "127.0.0.1:20345"}},
		{"mounted from the system", data, func(*shareFacts) {}, shareStatus{State: "mounted"}},
		{"mirrored", www, func(*shareFacts) {}, shareStatus{State: "watching", Mirror: &agent.Mirror{Name: "www", Host: "/www", State: agent.MirrorWatching}}},
		{"mirrored in part", www, func(f *shareFacts) { f.serving.Mirrors[0].Error = "a/b: permission denied" },
			shareStatus{State: "there", Mirror: &agent.Mirror{Name: "www", Host: "/www", State: agent.MirrorWatching, Error: "a/b: permission denied"},
				Error: "a/b: permission denied", Hint: "hostctl sync core-01 tries it again"}},
		{"nobody mirrors", www, func(f *shareFacts) { f.agentErr, f.serving = agent.ErrNotRunning, agent.MachineStatus{} },
			shareStatus{State: "there", Error: "the project's agent, which mirrors it, does not run", Hint: "hostctl up core-01 mends that"}},
		{"mirrors another folder", www, func(f *shareFacts) { f.serving.Mirrors[0].Host = "/elsewhere" },
			shareStatus{State: "there", Error: "the project's agent does not mirror it", Hint: "hostctl up core-01 mends that"}},
		{"copied, not yet told", www, func(f *shareFacts) { f.told, f.serving = nil, agent.MachineStatus{} }, shareStatus{State: "there"}},
		{"down", code, func(f *shareFacts) { f.down, f.hostErr = true, func(string) error { return errors.New("gone") } }, shareStatus{State: "machine down"}},
		{"no folder here", code, func(f *shareFacts) { f.hostErr = gone },
			shareStatus{State: "mounted", Error: "/src: file does not exist", Hint: "make the folder, or set create = true and run hostctl up core-01"}},
		{"no mirrored folder here", www, func(f *shareFacts) { f.hostErr = gone },
			shareStatus{State: "there", Error: "/www: file does not exist", Hint: mirror.AdviceForGone}},
		{"a file here", code, func(f *shareFacts) { f.hostErr = func(dir string) error { return folder.ErrNotFolder } },
			shareStatus{State: "mounted", Error: "is not a folder", Hint: "share another folder and run hostctl up core-01, or have this one opened to you"}},
		{"disk hangs", code, func(f *shareFacts) { f.hostErr = silent }, shareStatus{State: "mounted", Error: "/src does not answer",
			Hint: "see to the disk, or take the share out of the machine file and run hostctl up core-01"}},
		{"agent dead", code, func(f *shareFacts) { f.agentErr, f.serving = agent.ErrNotRunning, agent.MachineStatus{} },
			shareStatus{State: "mounted", Error: "the project's agent, which serves it, does not run", Hint: "hostctl up core-01 mends that"}},
		{"agent dead, of no use here", data, func(f *shareFacts) { f.agentErr, f.serving = agent.ErrNotRunning, agent.MachineStatus{} }, shareStatus{State: "mounted"}},
		{"agent hangs", code, func(f *shareFacts) { f.agentErr = errors.New("late") },
			shareStatus{State: "mounted", Error: "the project's agent, which serves it, does not answer", Hint: "hostctl up core-01 mends that"}},
		{"not served", code, func(f *shareFacts) { f.serving = agent.MachineStatus{} },
			shareStatus{State: "mounted", Error: "the project's agent does not serve it", Hint: "hostctl up core-01 mends that"}},
		{"served badly", code, func(f *shareFacts) { f.serving.Shares[0].Error = "port taken" }, shareStatus{State: "mounted", Error: "port taken", Hint: "hostctl up core-01 mends that"}},
		{"not told", code, func(f *shareFacts) { f.serving.Shares[0].Notice = "the guest is not told" },
			shareStatus{State: "mounted", Server: "127.0.0.1:20345", Notice: "the guest is not told"}},
		{"not mounted", code, func(f *shareFacts) { f.read("") },
			shareStatus{State: "not mounted", Server: "127.0.0.1:20345", Error: "it is not mounted in the guest",
				Hint: `hostctl ssh core-01 -c 'sudo systemctl start "home-core-my\\x20code.mount"' mounts it again, or says where the reason is`}},
		{"folder gone", www, func(f *shareFacts) { f.read("") },
			shareStatus{State: "missing", Mirror: &agent.Mirror{Name: "www", Host: "/www", State: agent.MirrorWatching},
				Error: "its folder is gone in the guest", Hint: "hostctl sync core-01 copies it again"}},
		{"new", code, func(f *shareFacts) { f.read(""); f.told = nil },
			shareStatus{State: "not applied", Server: "127.0.0.1:20345", Error: "the guest was not told of it yet", Hint: "hostctl up core-01"}},
		{"guest silent", code, func(f *shareFacts) { f.guestErr, f.mounts = errors.New("no answer"), nil },
			shareStatus{State: "unknown", Server: "127.0.0.1:20345", Error: "the guest cannot be asked: no answer", Hint: "hostctl up core-01 waits until the guest answers"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := fine()
			tt.change(f)
			want := tt.want
			want.Machine, want.Name, want.Type, want.Host, want.Guest = "core-01", tt.share.Name, tt.share.Type, tt.share.Host, tt.share.Guest
			if diff := cmp.Diff(want, f.status(tt.share)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Folders that [folder.Looks] has found so.
func gone(dir string) error { return fmt.Errorf("%s: %w", dir, fs.ErrNotExist) }
func silent(dir string) error {
	return hint.Wrap(fmt.Errorf("%s %w", dir, folder.ErrSilent), "see to the disk")
}

// status has the agent's side of it, with the same advice.
func TestStatusOfShares(t *testing.T) {
	t.Parallel()
	code := project.ShareSpec{Name: "code", Type: "nfs", Host: "/src", Guest: "/code", Server: "embedded"}
	www := project.ShareSpec{Name: "www", Type: "sftp", Host: "/www", Guest: "/www", Direction: "push"}
	data := project.ShareSpec{Name: "data", Type: "nfs", Host: "/data", Guest: "/data", Server: "system"}
	broken := agent.Mirror{Name: "www", Host: "/www", State: agent.MirrorWatching, Error: "a/b: permission denied"}
	ms := project.MachineState{Mounted: []project.ShareSpec{code, www}}
	for _, tt := range []struct {
		name        string
		share       project.ShareSpec
		hostErr     error
		by          agent.MachineStatus
		agentErr    error
		error, hint string
	}{
		{"served", code, nil, agent.MachineStatus{Shares: []agent.Share{{Name: "code", Host: "/src"}}}, nil, "", ""},
		{"not served", code, nil, agent.MachineStatus{}, nil, "the project's agent does not serve it", "hostctl up core-01 mends that"},
		{"nobody serves", code, nil, agent.MachineStatus{}, agent.ErrNotRunning, "the project's agent, which serves it, does not run", "hostctl up core-01 mends that"},
		{"mirrored in part", www, nil, agent.MachineStatus{Mirrors: []agent.Mirror{broken}}, nil, "a/b: permission denied", "hostctl sync core-01 tries it again"},
		{"disk hangs", code, silent("/src"), agent.MachineStatus{Shares: []agent.Share{{Name: "code", Host: "/src", Error: "/src does not answer"}}}, nil,
			"/src does not answer", "see to the disk, or take the share out of the machine file and run hostctl up core-01"},
		{"disk hangs under a mirror", www, silent("/www"), agent.MachineStatus{Mirrors: []agent.Mirror{{Name: "www", Host: "/www", State: agent.MirrorCopying}}}, nil,
			"/www does not answer", "see to the disk, or take the share out of the machine file and run hostctl up core-01"},
		{"folder gone", code, gone("/src"), agent.MachineStatus{}, nil,
			"/src: file does not exist", "make the folder, or set create = true and run hostctl up core-01"},
		{"mirrored folder gone", www, gone("/www"), agent.MachineStatus{}, agent.ErrNotRunning,
			"/www: file does not exist", mirror.AdviceForGone},
		{"not the agent's", data, silent("/data"), agent.MachineStatus{}, nil, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := shareOf("core-01", ms, tt.share, tt.hostErr, tt.by, tt.agentErr)
			if got.Error != tt.error || got.Hint != tt.hint || got.Name != tt.share.Name {
				t.Errorf("%+v", got)
			}
		})
	}
}
