//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// withMirror adds a share to the machine file of which the guest gets a copy,
// and makes its folder.
func (s *site) withMirror(machineFile string) {
	s.t.Helper()
	s.mirror("run", "#!/bin/sh\necho ran\n")
	s.mirror("src/old.c", "old\n")
	s.mirror("src/both.c", "nobody's\n")
	s.write(machineFile + `
share "work" {
  type      = "sftp"
  host      = "~/mirrored"
  guest     = "/home/core/work"
  direction = "both"
}
`)
}

// mirror writes a file of the folder.
func (s *site) mirror(name, content string) {
	s.t.Helper()
	full := filepath.Join(s.mirrored(), name)
	check(s.t, os.MkdirAll(filepath.Dir(full), 0o755))
	check(s.t, os.WriteFile(full, []byte(content), 0o755))
}

// mirrored is the folder: ~ is beside the state.
func (s *site) mirrored() string { return filepath.Join(filepath.Dir(s.state), "mirrored") }

// mirroredShare changes either side of the share, which reaches the other; of
// two changes none is lost.
func mirroredShare(t *testing.T, s *site) {
	s = &site{t: t, dir: s.dir, env: s.env, user: s.user, state: s.state, run: s.run}
	folder := s.mirrored()
	guest := func(script string) string { return s.hostctl("ssh", "-c", "cd work && "+script) }
	if got := guest("./run; cat src/old.c; stat -c %U src"); got != "ran\nold\ncore\n" {
		t.Errorf("up brought %q", got)
	}
	s.eventually("the agent watches", func() error {
		var machines []struct {
			Shares []struct {
				Error  string
				Mirror struct{ State, Last string }
			}
		}
		check(t, json.Unmarshal([]byte(s.hostctl("status", "-o", "json")), &machines))
		if len(machines) != 1 || len(machines[0].Shares) != 1 {
			return fmt.Errorf("%+v", machines)
		}
		if share := machines[0].Shares[0]; share.Mirror.State != "watching" || share.Mirror.Last == "" || share.Error != "" {
			return fmt.Errorf("%+v", share)
		}
		return nil
	})

	s.mirror("src/new.c", "new\n")
	check(t, os.Remove(filepath.Join(folder, "src", "old.c")))
	guest("until [ -e src/new.c ] && [ ! -e src/old.c ]; do sleep 0.1; done; echo made in the guest >from-guest && rm run")
	s.hostctl("sync")
	data, err := os.ReadFile(filepath.Join(folder, "from-guest"))
	if err != nil || string(data) != "made in the guest\n" {
		t.Errorf("from the guest came %q, %v", data, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "run")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the guest removed: %v", err)
	}

	// While somebody else is at it, the agent waits.
	lock, err := os.OpenFile(filepath.Join(s.dir, ".hostctl", "machines", "core-01", "work.mirror.lock"), os.O_RDWR, 0)
	check(t, err)
	check(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	guest("echo the guest\\'s >src/both.c")
	s.mirror("src/both.c", "the host's\n")
	check(t, lock.Close())
	want := []string{"the guest's\n", "the host's\n"}
	s.eventually("both versions are kept", func() error {
		found, err := filepath.Glob(filepath.Join(folder, "src", "both*.c"))
		check(t, err)
		var got []string
		for _, name := range found {
			data, err := os.ReadFile(name)
			check(t, err)
			got = append(got, string(data))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("%q in %q", got, found)
		}
		return nil
	})
	s.hostctl("sync")
	if got := guest("cat src/both*.c | sort"); got != strings.Join(want, "") {
		t.Errorf("the guest has %q", got)
	}

	check(t, os.RemoveAll(filepath.Join(folder, "src")))
	guest("until [ ! -e src ]; do sleep 0.1; done; [ -e from-guest ]")
}
