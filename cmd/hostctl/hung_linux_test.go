package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/sync/mirror"
)

// plan and up say of a folder on a disk that hangs that it does not answer, make
// nothing, and end, whatever of theirs hangs with it.
func TestHungFolder(t *testing.T) {
	t.Parallel()
	hung, _ := lab.Hung(t)
	dir, home := t.TempDir(), t.TempDir()
	file := strings.ReplaceAll(`machine "core-01" {
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
`, "HUNG", hung)
	if err := os.WriteFile(filepath.Join(dir, "machine.hcl"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	// mistake is as it is shown, on the line of a share's folder.
	mistake := func(share string, line int, text, folder string) string {
		return fmt.Sprintf(`Error: The folder of share %q does not answer

  on machine.hcl line %d, in machine "core-01":
   %[2]d:     %[3]s"%[4]s"
       %[5]s%[6]s

%[4]s does not answer. See whether the disk or network drive that it is on is still there (ls %[4]s hangs as well), or take the share out of the machine file.

`, share, line, text, folder, strings.Repeat(" ", len("   ")+len(text)), strings.Repeat("^", len(folder)+2))
	}
	nas, made := mistake("nas", 4, "host  = ", hung), mistake("new", 8, "host   = ", hung+"/new")

	type command struct {
		args        []string
		out, errors bytes.Buffer
		err         error
	}
	plan, planJSON, up := &command{args: []string{"plan"}}, &command{args: []string{"plan", "-o", "json"}}, &command{args: []string{"up"}}
	var all sync.WaitGroup
	for _, c := range []*command{plan, planJSON, up} {
		all.Go(func() {
			cmd := exec.CommandContext(t.Context(), "hostctl", c.args...)
			cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
			cmd.Stdout, cmd.Stderr = &c.out, &c.errors
			c.err = cmd.Run()
		})
	}
	all.Wait()
	for _, c := range []*command{plan, planJSON, up} {
		if exit, ok := errors.AsType[*exec.ExitError](c.err); !ok || exit.ExitCode() != exitUsage {
			t.Errorf("%q: %v, want exit code %d", c.args, c.err, exitUsage)
		}
	}
	for _, c := range []*command{plan, planJSON} {
		if diff := cmp.Diff(nas+made, c.errors.String()); diff != "" {
			t.Errorf("%q: %s", c.args, diff)
		}
	}
	if said := up.errors.String(); !strings.Contains(said, "\ncore-01: failed after ") || !strings.HasSuffix(said, "\n"+nas+made) {
		t.Errorf("up: %s", said)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}

	var plans []lifecycle.MachinePlan
	if err := json.Unmarshal(planJSON.out.Bytes(), &plans); err != nil || len(plans) != 1 {
		t.Fatalf("%v: %s", err, &planJSON.out)
	}
	problem := func(share, folder string, line int) lifecycle.Problem {
		return lifecycle.Problem{
			Error: fmt.Sprintf("share %q: %s does not answer", share, folder),
			Hint: fmt.Sprintf("see whether the disk or network drive that it is on is still there (ls %s hangs as well), "+
				"or take the share out of the machine file: machine.hcl line %d", folder, line),
		}
	}
	if diff := cmp.Diff([]lifecycle.Problem{problem("nas", hung, 4), problem("new", hung+"/new", 8)}, plans[0].Problems); diff != "" {
		t.Error(diff)
	}
}

// sync says so as well, whoever would mirror the folder.
func TestSyncOfHungFolder(t *testing.T) {
	t.Parallel()
	hung, _ := lab.Hung(t)
	p, err := project.Open(t.TempDir(), project.Options{StateHome: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	a := newApp(nil, streams{}, nil)
	s := syncing{machine: &one{project: p, name: "core"}, share: &machinefile.Share{Name: "www"}, config: mirror.Config{Host: hung}}
	if _, _, err := a.syncOnce(t.Context(), s); !errors.Is(err, folder.ErrSilent) {
		t.Errorf("%v, want %v", err, folder.ErrSilent)
	}
}
