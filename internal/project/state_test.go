package project_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/golden"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/network"
)

func sample() project.MachineState {
	loopback := netip.MustParseAddr("127.0.0.1")
	docker := network.Forward{Name: "docker", Protocol: "tcp", HostIP: loopback, HostPort: 2375, GuestPort: 2375}
	return project.MachineState{
		Provider: "qemu",
		DomainID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		Image: image.Image{
			Ref:     image.Ref{Source: "dockerhost"},
			Version: "1a2b", Arch: "amd64", Path: "/cache/dockerhost.qcow2", Format: "qcow2", Size: 4 << 30,
			Guest: image.Guest{
				Family: "dockerhost", IgnitionKey: "opt/com.coreos/config", IgnitionSpec: "3.3.0",
				ButaneVariant: "fcos", ButaneVersion: "1.4.0", User: "core", Home: "/home/core",
			},
		},
		Spec: project.Spec{Image: "dockerhost", CPUs: 2, Memory: 1 << 30, DockerPort: 2375, Forwards: []network.Forward{docker}},
		Forwards: []network.Forward{
			{Name: "ssh", Protocol: "tcp", HostIP: loopback, HostPort: 2222, GuestPort: 22},
			docker,
		},
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Ready:   true,
	}
}

// The golden is a state file as it was once written. It may gain fields; what
// it has must go on being read, so it is rewritten only by intent.
func TestReadsOldState(t *testing.T) {
	t.Parallel()
	const file = "state.json.golden"
	h, dir := newHome(t), realTempDir(t)
	if golden.Update() {
		p, unlock := h.locked(dir)
		if err := p.Update(func(s *project.State) error {
			s.Machines["core-01"] = sample()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(p.StateDir(), "state.json"))
		if err != nil {
			t.Fatal(err)
		}
		golden.Equal(t, file, strings.NewReplacer(
			jsonString(t, dir), "DIR", jsonString(t, h.options.RuntimeDir), "RUNTIME", p.ID(), "0123456789ab",
		).Replace(string(data)))
		unlock()
		return
	}
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("DIR", jsonString(t, dir), "RUNTIME", jsonString(t, h.options.RuntimeDir)).Replace(string(data))
	if err := os.Mkdir(filepath.Join(dir, ".hostctl"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".hostctl", "state.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := h.open(dir).Load()
	if err != nil {
		t.Fatal(err)
	}
	want := &project.State{
		Version: 1, ID: "0123456789ab", Dir: dir, RunDir: h.options.RuntimeDir + "/hostctl/0123456789ab",
		Machines: map[string]project.MachineState{"core-01": sample()},
	}
	if diff := cmp.Diff(want, s, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

// jsonString returns s as it stands between the quotes in JSON.
func jsonString(t *testing.T, s string) string {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(data), `"`)
}

func TestUpdateInParallel(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p, _ := h.locked(t.TempDir())
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := p.Update(func(s *project.State) error {
				s.Machines[fmt.Sprintf("core-%02d", i)] = project.MachineState{}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s, err := p.Load(); err != nil || len(s.Machines) != 20 {
		t.Errorf("%d machines, %v; want 20", len(s.Machines), err)
	}
}

func TestUpdateWritesOnlyChanges(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p, _ := h.locked(t.TempDir())
	path := filepath.Join(p.StateDir(), "state.json")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if err := p.Update(func(s *project.State) error {
		s.Machines["core-01"] = sample()
		return refused
	}); !errors.Is(err, refused) {
		t.Errorf("Update() error = %v", err)
	}
	if err := p.Update(func(*project.State) error { return nil }); err != nil {
		t.Error(err)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the file was written again")
	}
}

func TestDamagedState(t *testing.T) {
	t.Parallel()
	const ok = `{"version":1,"id":"0123456789ab","dir":"/x"`
	const damaged = "nothing was changed: restore the file from a backup, or remove it and run hostctl destroy, which finds the machines without it, to start afresh"
	for _, tt := range []struct{ name, content, want, hint string }{
		{"empty", "", "the state is damaged: unexpected end of JSON input", damaged},
		{"cut", ok, "the state is damaged: unexpected end of JSON input", damaged},
		{"binary", "\x00\x00", "the state is damaged: invalid character '\\x00' looking for beginning of value", damaged},
		{"type", `{"version":1,"id":7}`, "the state is damaged: json: cannot unmarshal number into Go struct field State.id of type string", damaged},
		{"no version", `{}`, "the state is damaged: no version", damaged},
		{"id is a path", `{"version":1,"id":"../../../etc"}`, `the state is damaged: id "../../../etc" is not 12 hex digits`, damaged},
		{"machine is a path", ok + `,"machines":{"../..":{}}}`, `the state is damaged: machine name "../.." is not a DNS label`, damaged},
		{"network is a path", ok + `,"machines":{"core":{"nics":[{"network":"../dev","mac":"52:54:00:00:00:01"}]}}}`, `the state is damaged: machine "core": network "../dev" is no network's name`, damaged},
		{"address of no card", ok + `,"machines":{"core":{"nics":[{"network":"dev","mac":"one"}]}}}`, `the state is damaged: machine "core": network "dev": address one: invalid MAC address`, damaged},
		{"interface is an option", ok + `,"machines":{"core":{"nics":[{"network":"lan","mac":"52:54:00:00:00:01","interface":"eth0,script=/tmp/x"}]}}}`, `the state is damaged: machine "core": network "lan": "eth0,script=/tmp/x" is no interface's name`, damaged},
		{"foreign run_dir", ok + `,"run_dir":"/home/user"}`, `the state is damaged: run_dir "/home/user" is not one of this project`, damaged},
		{"newer", `{"version":2,"machines":["another","shape"]}`, "the state has version 2, this hostctl knows up to 1", "a newer hostctl made these machines: use that one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, dir := newHome(t), t.TempDir()
			path := filepath.Join(dir, ".hostctl", "state.json")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			p := h.open(dir)
			_, err := p.Load()
			if want := p.StateDir() + string(filepath.Separator) + "state.json: " + tt.want; err == nil || err.Error() != want {
				t.Errorf("Load() error = %v\nwant %s", err, want)
			}
			if got := hint.Of(err); got != tt.hint {
				t.Errorf("hint = %q", got)
			}
			if _, err := p.Lock(t.Context(), "hostctl up", nil); err == nil || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("Lock() error = %v", err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != tt.content {
				t.Errorf("the file is now %q, %v", got, err)
			}
			// A lock that was refused is not held.
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			h.locked(dir)
		})
	}
}

// count raises a number in the state for ever, and says each that it wrote.
func count(dir string, o project.Options) error {
	p, err := project.Open(dir, o)
	if err != nil {
		return err
	}
	if _, err := p.Lock(context.Background(), "hostctl up", nil); err != nil {
		return err
	}
	for {
		var n int
		err := p.Update(func(s *project.State) error {
			m := s.Machines["core-01"]
			n, _ = strconv.Atoi(m.DomainID) // "" counts as 0
			n++
			m.DomainID = strconv.Itoa(n)
			m.Provider = strings.Repeat("x", 1<<16) // several pages, so that a torn write shows
			s.Machines["core-01"] = m
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// Whatever instant a command is killed at, the state is readable, not older
// than what it confirmed, and the next command needs no repair.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	h, dir := newHome(t), t.TempDir()
	p := h.open(dir)
	confirmed := 0
	for range 25 {
		cmd, out := h.helper("count", dir)
		lines := 1 + rand.IntN(4)
		for range lines {
			if !out.Scan() {
				t.Fatal("the helper ended")
			}
		}
		// Somewhere inside the next write, a different place each time.
		killed := make(chan struct{})
		time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() {
			defer close(killed)
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		})
		for {
			n, err := strconv.Atoi(out.Text())
			if err != nil {
				t.Fatal(err)
			}
			confirmed = max(confirmed, n)
			if !out.Scan() {
				break
			}
		}
		<-killed
		if err := cmd.Wait(); err == nil {
			t.Error("the helper ended by itself")
		}
		s, err := p.Load()
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(s.Machines["core-01"].DomainID)
		if err != nil || n < confirmed || n > confirmed+1 {
			t.Fatalf("state says %d, %v; %d was confirmed", n, err, confirmed)
		}
	}
	_, unlock := h.locked(dir)
	unlock()
	if got, want := tree(t, p.StateDir()), ".gitignore lock state.json"; got != want {
		t.Errorf("left %q, want %q", got, want)
	}
}

func FuzzState(f *testing.F) {
	good, err := json.Marshal(project.State{Version: 1, ID: "0123456789ab", Machines: map[string]project.MachineState{"core-01": sample()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"id":"0123456789ab","machines":{"a/b":{}}}`))
	f.Add([]byte(`{"version":1e3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, ".hostctl"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ".hostctl", "state.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := project.Open(dir, project.Options{StateHome: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.Load()
		if err != nil {
			return
		}
		for name := range s.Machines {
			if filepath.Dir(p.MachineDir(name)) != p.MachinesDir() {
				t.Errorf("machine %q leads to %s", name, p.MachineDir(name))
			}
		}
	})
}
