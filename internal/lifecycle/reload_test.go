package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
)

// A machine that cannot be halted does not leave the others halted.
func TestReloadGoesOnWhereOneFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, cluster)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	b.fake.Before = func(_ context.Context, op providertest.Op, name string) error {
		if op == providertest.Stop && name == "core-02" {
			return boom
		}
		return nil
	}
	b.events.clear()
	e, config := b.engine()
	if err := e.Reload(t.Context(), config.Machines, config.Machines); !errors.Is(err, boom) {
		t.Fatalf("reload: %v, want boom", err)
	}
	for name, want := range map[string]string{"core-01": "done", "core-02": "failed", "core-03": "done"} {
		if got := b.events.steps(name); len(got) == 0 || got[len(got)-1] != want {
			t.Errorf("%s: %v, want %s at the end", name, got, want)
		}
		if s, err := b.fake.Status(t.Context(), name); err != nil || s.State != provider.Running {
			t.Errorf("%s is %s, %v", name, s.State, err)
		}
	}
}

// A port that the changed file insists on and that is taken is found before
// the machine is halted for it.
func TestReloadChecksNewPortsFirst(t *testing.T) {
	t.Parallel()
	l, own := listen(t)
	l.Close()
	file := fmt.Sprintf(`
machine "core-01" {
  image = "dockerhost"
  forward "ssh" {
    guest = 22
    host  = %d
  }
  MORE
}
`, own)
	b := newBench(t, strings.Replace(file, "MORE", "", 1))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	// As QEMU would: the machine's own ports are not in its way.
	held, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", own))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	l, port := listen(t)
	defer l.Close()
	b.edit(strings.Replace(file, "MORE", fmt.Sprintf("forward \"web\" {\n guest = 80\n host = %d\n }", port), 1))
	e, config := b.engine()
	err = e.Reload(t.Context(), config.Machines, config.Machines)
	want := fmt.Sprintf(`core-01: check host: forward "web": 127.0.0.1:%d is in use by lifecycle.test (pid %d)`, port, os.Getpid())
	if err == nil || err.Error() != want {
		t.Errorf("reload: %v\nwant %s", err, want)
	}
	if s, err := b.fake.Status(t.Context(), "core-01"); err != nil || s.State != provider.Running {
		t.Errorf("the machine is %s, %v", s.State, err)
	}
	// So does up, which would change the forwards in place.
	if err := b.up(t.Context()); err == nil || err.Error() != want {
		t.Errorf("up: %v\nwant %s", err, want)
	}
}

// A machine that exists, but does not run, gives way to the port that another
// one's block insists on.
func TestDeclaredPortGoesFirst(t *testing.T) {
	t.Parallel()
	l, port := listen(t)
	l.Close()
	forward := fmt.Sprintf("guest = 2375\n host = %d\n", port)
	two := `
machine "core-01" {
  image = "dockerhost"
  forward "docker" {
    auto_correct = true
    ` + forward + `
  }
}
machine "core-02" {
  image = "dockerhost"
  MORE
}
`
	b := newBench(t, strings.Replace(two, "MORE", "", 1))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, _ := b.engine()
	if err := e.Halt(t.Context(), b.names()); err != nil {
		t.Fatal(err)
	}
	host := b.state().Machines["core-01"].DockerHost()
	b.edit(strings.Replace(two, "MORE", "forward \"docker\" {\n"+forward+"}", 1))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.state().Machines["core-02"].DockerHost(); got != host {
		t.Errorf("core-02 has Docker on %s, want %s", got, host)
	}
	if got := b.state().Machines["core-01"].DockerHost(); got == host {
		t.Errorf("core-01 kept %s", got)
	}
}

// A machine that was renamed in the file still holds its ports under the old
// name.
func TestPortOfARenamedMachine(t *testing.T) {
	t.Parallel()
	l, port := listen(t)
	l.Close()
	file := fmt.Sprintf(`
machine "core-01" {
  image = "dockerhost"
  forward "docker" {
    guest = 2375
    host  = %d
  }
}
`, port)
	b := newBench(t, file)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	held, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) // as QEMU would
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	b.edit(strings.Replace(file, "core-01", "web-01", 1))
	err = b.up(t.Context())
	want := fmt.Sprintf(`web-01: check host: forward "docker": host port 127.0.0.1:%d belongs to machine "core-01"`, port)
	if err == nil || err.Error() != want {
		t.Errorf("up: %v\nwant %s", err, want)
	}
	if got, want := hint.Of(err), "hostctl destroy core-01 gives it free; or set auto_correct = true ("+filepath.Join(b.dir, "machine.hcl")+" line 4) to take the next free port, or choose another host port"; got != want {
		t.Errorf("hint %q\nwant %q", got, want)
	}
}

// Whoever knows better what to do is heard.
func TestNotReadyKeepsTheCausesHint(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	stranger := &sshclient.HostKeyError{Want: "SHA256:one", Got: "SHA256:two"}
	b.guests.ssh = func(context.Context) error { return stranger }
	err := b.up(t.Context())
	if _, ok := errors.AsType[*lifecycle.NotReadyError](err); !ok {
		t.Fatalf("up: %v, want *NotReadyError", err)
	}
	if got := hint.Of(err); got != stranger.Hint() {
		t.Errorf("hint %q, want %q", got, stranger.Hint())
	}
}
