package cloudconfig

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostctl/hostctl/internal/wait"
)

// socketGuest is a guest in which programs do as they do there, but for systemctl:
// Docker listens by the unit that was loaded last before it started.
type socketGuest struct {
	t   *testing.T
	dir string
	sh  string // its root's: dash in Debian, bash elsewhere
}

func newSocketGuest(t *testing.T, sh string) *socketGuest {
	t.Helper()
	// A shell cannot trap what was ignored when it began, as by nohup. Programs begin
	// with the default where this one has a handler.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT)
	t.Cleanup(func() { signal.Stop(signals) })
	g := &socketGuest{t, t.TempDir(), sh}
	if err := os.Mkdir(g.path("bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	g.program("sudo", `exec "$@"`)
	// The first of the calls that are to fail, or to kill who called, does.
	g.program("systemctl", `cd "$(dirname "$0")/.." && echo "$*" >>log
case $1 in
daemon-reload) cp docker-tcp.socket loaded;;
stop) rm -f listens;;
start) cp loaded listens;;
esac
`+failing)
	g.put("docker-tcp.socket", "old\n")
	g.put("loaded", "old\n")
	g.put("listens", "old\n")
	g.put("log", "")
	return g
}

// failing is the end of a program that fails, or kills who called, when that is due.
// It uses none of the programs that it stands for.
const failing = `due=; signal=
[ -e fault ] && read -r due <fault
[ "$due" = "${0##*/}${1:+ $1}" ] || exit 0
rm fault
[ -e signal ] || exit 1
read -r signal <signal
kill -s "$signal" $PPID
`

func (g *socketGuest) path(name string) string { return filepath.Join(g.dir, name) }

func (g *socketGuest) put(name, content string) {
	g.t.Helper()
	if err := os.WriteFile(g.path(name), []byte(content), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// get is what a file holds, or "none".
func (g *socketGuest) get(name string) string {
	b, err := os.ReadFile(g.path(name))
	if err != nil {
		return "none"
	}
	return strings.TrimSpace(string(b))
}

func (g *socketGuest) program(name, script string) {
	g.t.Helper()
	if err := os.WriteFile(g.path("bin/"+name), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		g.t.Fatal(err)
	}
}

// tell runs the command with a unit.
func (g *socketGuest) tell(unit string) error {
	command := strings.NewReplacer("/etc/systemd/system", g.dir, "sudo sh", "sudo "+g.sh).Replace(DockerSocketCommand)
	cmd := exec.CommandContext(g.t.Context(), "/bin/sh", "-c", command)
	cmd.Env = append(os.Environ(), "PATH="+g.path("bin")+":"+os.Getenv("PATH"))
	cmd.Stdin = strings.NewReader(unit)
	return cmd.Run()
}

// expect holds what is there to the unit in place, and to what Docker listens by.
func (g *socketGuest) expect(when, unit, listens string) {
	g.t.Helper()
	if u, l := g.get("docker-tcp.socket"), g.get("listens"); u != unit || l != listens {
		g.t.Errorf("%s: the unit is %q and Docker listens by %q, want %q and %q", when, u, l, unit, listens)
	}
}

// done makes sure that the next call does all there is to do, and the one after it nothing.
func (g *socketGuest) done() {
	g.t.Helper()
	if err := g.tell("new\n"); err != nil {
		g.t.Errorf("the next call: %v", err)
	}
	g.expect("the next call", "new", "new")
	before := g.get("log")
	if err := g.tell("new\n"); err != nil || g.get("log") != before {
		g.t.Errorf("with nothing to do: %v, %q", err, strings.TrimPrefix(g.get("log"), before))
	}
	if left, _ := filepath.Glob(g.path("docker-tcp.socket.*")); len(left) > 0 {
		g.t.Errorf("left: %q", left)
	}
}

// What fails or is ended half-way leaves Docker as it was, and what could not even do
// that is seen by the next call. What is as it should be is left alone.
func TestDockerSocketCommand(t *testing.T) {
	t.Parallel()
	for _, sh := range []string{"dash", "bash --posix"} {
		t.Run(sh, func(t *testing.T) {
			t.Parallel()
			if program, _, _ := strings.Cut(sh, " "); !installed(program) {
				t.Skipf("%s is not installed", program)
			}
			newSocketGuest(t, sh).done()
			g := newSocketGuest(t, sh)
			if err := g.tell(""); err == nil { // the connection was lost before
				t.Error("no unit, and no error")
			}
			g.expect("without a unit", "old", "old")
			g.done()
			for _, step := range []string{"cat", "chmod", "ln", "mv", "systemctl daemon-reload", "systemctl stop", "systemctl start"} {
				for _, signal := range []string{"", "HUP", "INT", "TERM", "PIPE", "KILL"} {
					t.Run(step+" "+signal, func(t *testing.T) { testDockerSocketFault(t, sh, step, signal) })
				}
			}
		})
	}
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// testDockerSocketFault has a step fail, or the shell get a signal when it is done.
func testDockerSocketFault(t *testing.T, sh, step, signal string) {
	t.Parallel()
	g := newSocketGuest(t, sh)
	program, _, _ := strings.Cut(step, " ")
	if program != "systemctl" {
		real, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		g.program(program, real+` "$@" || exit; cd "$(dirname "$0")/.." || exit; set --`+"\n"+failing)
	}
	g.put("fault", step+"\n")
	if signal != "" {
		g.put("signal", signal+"\n")
	}
	if err := g.tell("new\n"); err == nil {
		t.Error("no error")
	}
	if g.get("fault") != "none" {
		t.Error("the step was not reached")
	}
	if signal != "KILL" {
		g.expect("then", "old", "old")
	}
	g.done()
}

// Where Docker does not come up with the former unit either, the next call sees that
// all is to do, whichever unit it has.
func TestDockerSocketCommandThatCannotGoBack(t *testing.T) {
	t.Parallel()
	g := newSocketGuest(t, "sh")
	works, err := os.ReadFile(g.path("bin/systemctl"))
	if err != nil {
		t.Fatal(err)
	}
	g.program("systemctl", "cd \"$(dirname \"$0\")/..\"; rm -f listens\nexit 1\n")
	for range 2 {
		if err := g.tell("new\n"); err == nil {
			t.Error("no error")
		}
		g.expect("then", "old", "none")
	}
	g.program("systemctl", strings.TrimPrefix(string(works), "#!/bin/sh\n"))
	if err := g.tell("old\n"); err != nil {
		t.Errorf("with the former unit: %v", err)
	}
	g.expect("with the former unit", "old", "old")
	g.done()
}

// A shell whose connection was lost may still be at it: the next one waits for it.
func TestDockerSocketCommandWaits(t *testing.T) {
	t.Parallel()
	g := newSocketGuest(t, "sh")
	flock, err := exec.LookPath("flock")
	if err != nil {
		t.Fatal(err)
	}
	g.program("flock", `: >"$(dirname "$0")/../waits"; exec `+flock+" \"$@\"\n")
	other, err := os.Open(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() { told <- g.tell("new\n") }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = wait.Until(ctx, 5*time.Millisecond, func(context.Context) error {
		_, err := os.Stat(g.path("waits"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docker-tcp.socket", "loaded", "listens"} {
		g.put(name, "new\n") // by the other one
	}
	_ = other.Close() // and with it the lock
	if err := <-told; err != nil || g.get("log") != "" {
		t.Errorf("%v, and it did %q", err, g.get("log"))
	}
}
