//go:build e2e

package e2e

import (
	"fmt"
	"testing"
)

// TestCluster brings examples/cluster up: three machines in parallel, each
// with a Docker port of its own.
func TestCluster(t *testing.T) { onEach(t, cluster) }

func cluster(t *testing.T, provider string) {
	s := newSite(t, "cluster", on(provider, example(t, "cluster")))
	s.hostctl("up")
	tr := s.traces()
	if len(tr.ids) != 3 {
		t.Fatalf("%d machines, want 3", len(tr.ids))
	}
	for i, m := range s.status() {
		name, host := fmt.Sprintf("core-%02d", i+1), fmt.Sprintf("tcp://127.0.0.1:%d", 2375+i)
		if m.Name != name || m.State != "running" || m.DockerHost != host {
			t.Errorf("machine %d: %+v, want %s running on %s", i, m, name, host)
		}
		r := s.exec(t.Context(), "", "bash", "-c", fmt.Sprintf(`eval "$(hostctl env %s)"; docker info --format '{{.Name}}'`, name))
		if r.stdout != name+"\n" {
			t.Errorf("Docker on %s calls itself %q, want %s\n%s", host, r.stdout, name, r.stderr)
		}
	}

	r := s.try(t.Context(), "env")
	if r.code != 2 || r.stdout != "" {
		t.Errorf("env without a name: exit %d, stdout %q", r.code, r.stdout)
	}
	contains(t, "stderr", r.stderr, "core-01, core-02, core-03")

	s.hostctl("halt", "core-02")
	for i, want := range []string{"running", "stopped", "running"} {
		if got := s.status()[i].State; got != want {
			t.Errorf("core-%02d is %s, want %s", i+1, got, want)
		}
	}
	s.hostctl("destroy", "--yes", "core-02")
	if left := s.traces(); len(left.ids) != 2 {
		t.Errorf("%d machines after destroying one of three", len(left.ids))
	}
	s.hostctl("destroy", "--yes")
	s.nothingLeft(tr)
}
