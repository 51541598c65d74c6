package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/sshtest"
)

// A mirrored share whose folder hangs can be taken out: the agent follows, and ends.
func TestMirrorOfAFolderThatHangs(t *testing.T) {
	t.Parallel()
	hung, _ := lab.Hung(t)
	sshd := sshtest.Start(t)
	b := newBench(t)
	share := b.folder("www")
	share.Type, share.Server, share.Direction, share.Host = "sftp", "", "push", hung
	share.Guest = filepath.Join(b.home, "guest", "www")
	b.sharing("core", share)
	check(t, os.MkdirAll(filepath.Dir(b.project.MirrorFile("core", share.Name)), 0o700))
	mounted := func(shares ...project.ShareSpec) {
		t.Helper()
		b.update(func(s *project.State) {
			ms := s.Machines["core"]
			ms.Mounted, ms.Spec.Shares = shares, shares
			s.Machines["core"] = ms
		})
		b.sync("core")
	}
	b.here(func(c *agent.Config) {
		c.Target = func(string, project.MachineState) (sshclient.Target, error) { return sshd.Target, nil }
	})
	mounted(share)
	b.until(func() error {
		if m := b.status().Machines["core"].Mirrors; len(m) != 1 || m[0].State == agent.MirrorConnecting {
			return fmt.Errorf("mirrors: %+v", m)
		}
		return nil
	})
	mounted()
	if m := b.status().Machines["core"].Mirrors; len(m) != 0 {
		t.Errorf("mirrors: %+v", m)
	}
}
