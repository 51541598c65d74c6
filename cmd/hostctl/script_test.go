package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hostctl/hostctl/internal/golden"
	"github.com/hostctl/hostctl/provider/providertest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"hostctl":  main,
		"squatter": squatter,
	})
}

// TestScript runs testdata/script: the specification of the command line.
//
// Beyond testscript's own commands the scripts have
//
//	exits CODE COMMAND...    runs COMMAND, which must end with that exit code
//	refused CODE COMMAND...  the same, and COMMAND must print nothing on standard
//	                         output and change nothing below $WORK
//	occupy VAR               holds a port of 127.0.0.1 by a program called squatter,
//	                         until the script ends, and puts its number into $VAR
//	disk FILE                makes a raw disk that boots, says hello on the serial
//	                         line, and shuts down when its power button is pressed
//	agent FILE               plays the agent of the project in $WORK, whose status is in
//	                         FILE; FILE "silent": one that does not answer
//	mount DIR SIZE           mounts a file system of SIZE on DIR; SIZE "ro": one that is
//	                         read-only, with what is in DIR
//
// and the condition [boots], for scripts that start QEMU, and [root].
//
// $SCRIPTS is the repository's folder of that name.
//
// After exits and refused, $SAID is a file with what COMMAND said on standard
// error, without what differs from run to run: see settled.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: golden.Update(),
		Setup:         setupScript,
		Condition:     condition,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":   exits,
			"refused": refused,
			"occupy":  occupy,
			"disk":    disk,
			"agent":   playAgent,
			"mount":   mount,
		},
	})
}

// said is where a script finds what a command wrote to standard error.
const said = ".said"

func setupScript(e *testscript.Env) error {
	home := filepath.Join(e.WorkDir, "home")
	e.Setenv("HOME", home)
	e.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
	e.Setenv("XDG_CACHE_HOME", filepath.Join(home, "cache"))
	e.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	hostctl, err := exec.LookPath("hostctl")
	if err != nil {
		return err
	}
	e.Setenv("HOSTCTL", hostctl) // for scripts that change the PATH
	scripts, err := filepath.Abs(filepath.Join("..", "..", "scripts"))
	if err != nil {
		return err
	}
	e.Setenv("SCRIPTS", scripts)
	e.Setenv("SAID", filepath.Join(e.WorkDir, said))
	e.Setenv("DEEP", filepath.Join(slices.Repeat([]string{"twenty-characters---"}, 10)...))
	// A script that fails half way leaves no guest behind.
	e.Defer(func() {
		if _, err := os.Stat(filepath.Join(e.WorkDir, ".hostctl")); err != nil {
			return
		}
		cmd := exec.Command(hostctl, "-C", e.WorkDir, "destroy", "--yes")
		cmd.Env = e.Vars
		if out, err := cmd.CombinedOutput(); err != nil {
			e.T().Log(string(out), err)
		}
	})
	return os.MkdirAll(home, 0o755)
}

func condition(name string) (bool, error) {
	switch name {
	case "boots":
		return slices.Contains(strings.Split(os.Getenv("HOSTCTL_TEST_PROVIDERS"), ","), "qemu"), nil
	case "root":
		return os.Geteuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	stderr := ts.ReadFile("stderr")
	ts.Check(os.WriteFile(ts.Getenv("SAID"), []byte(settled(stderr, ts.Getenv("WORK"))), 0o644))
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func refused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: refused CODE COMMAND...")
	}
	before := tree(ts)
	exits(ts, neg, args)
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("standard output is not empty")
	}
	after := tree(ts)
	for name, was := range before {
		if is, ok := after[name]; !ok || is != was {
			ts.Fatalf("%s was changed: %s, then %s", name, was, is)
		}
		delete(after, name)
	}
	for name := range after {
		ts.Fatalf("%s was made", name)
	}
}

// tree describes everything below $WORK, except the folder of sums: what a file
// hashed to is remembered also when it was not what was wanted.
func tree(ts *testscript.TestScript) map[string]string {
	work, files := ts.Getenv("WORK"), map[string]string{}
	ts.Check(filepath.WalkDir(work, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(work, path)
		if err != nil || name == said {
			return err
		}
		if d.IsDir() {
			files[name] = "directory"
			if name == filepath.Join("home", "cache", "hostctl", "images", ".verified") {
				for ; name != "home"; name = filepath.Dir(name) {
					delete(files, name)
				}
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files[name] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		return nil
	}))
	return files
}

// unsettled is what differs from run to run, and what scripts see of it.
var unsettled = []struct {
	pattern *regexp.Regexp
	stable  string
}{
	{regexp.MustCompile(`(?m)^notice: (?:no (?:KVM|HVF|WHPX): |guests run under emulation).*\n`), ""},
	// What a step waits for is told when it takes long.
	{regexp.MustCompile(`(?m)^[a-z0-9-]+: [A-Za-z ]+ … [0-9]+s(?:: .*)?\n`), ""},
	{regexp.MustCompile(`qemu [0-9.]+, (?:emulation|kvm|hvf|whpx)`), "qemu VERSION, ACCELERATOR"},
	{regexp.MustCompile(`(start machine … done in [0-9.]+s: )(?:emulation|kvm|hvf|whpx)`), "${1}ACCELERATOR"},
	{regexp.MustCompile(`\b[0-9]+\.[0-9]s\b`), "N.Ns"},
	{regexp.MustCompile(`\(pid [0-9]+\)`), "(pid PID)"},
	{regexp.MustCompile(`this host has [0-9.]+[KMGT]iB`), "this host has MEMORY"},
	{regexp.MustCompile(`127\.0\.0\.1:[0-9]+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`-[0-9]+\.tmp\b`), "-RANDOM.tmp"},
}

func settled(text, work string) string {
	text = strings.ReplaceAll(text, work, "$WORK")
	for _, u := range unsettled {
		text = u.pattern.ReplaceAllString(text, u.stable)
	}
	return text
}

// squatter is a program that holds a port of 127.0.0.1, prints it, and ends
// when its standard input does.
func squatter() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer l.Close()
	fmt.Fprintln(os.Stdout, l.Addr().(*net.TCPAddr).Port)
	io.Copy(io.Discard, os.Stdin)
}

func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy VAR")
	}
	cmd := exec.Command("squatter")
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		stdin.Close()
		ts.Check(cmd.Wait())
	})
	var port int
	_, err = fmt.Fscanln(stdout, &port)
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(port))
}

func disk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: disk FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), providertest.BootSector(), 0o644))
}

func mount(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mount DIR SIZE")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	if args[1] == "ro" {
		ts.Check(ts.Exec("mount", "--bind", dir, dir))
		ts.Defer(func() { ts.Check(ts.Exec("umount", dir)) })
		ts.Check(ts.Exec("mount", "-o", "remount,bind,ro", dir))
		return
	}
	ts.Check(ts.Exec("mount", "-t", "tmpfs", "-o", "size="+args[1], "none", dir))
	ts.Defer(func() { ts.Check(ts.Exec("umount", dir)) })
}

// playAgent gives the project a run directory of its own: state.json and FILE
// name it, and the project, as $RUN and $WORK.
func playAgent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: agent FILE")
	}
	work := ts.Getenv("WORK")
	run := filepath.Join(work, "hostctl", "0123456789ab")
	ts.Check(os.MkdirAll(run, 0o700))
	for _, dir := range []string{run, filepath.Dir(run)} {
		ts.Check(os.Chmod(dir, 0o700))
	}
	expand := strings.NewReplacer("$WORK", work, "$RUN", run)
	state := filepath.Join(work, ".hostctl", "state.json")
	ts.Check(os.WriteFile(state, []byte(expand.Replace(ts.ReadFile(state))), 0o600))

	socket := filepath.Join(run, "agent.sock")
	ts.Check(os.RemoveAll(socket))
	l, err := net.Listen("unix", socket)
	ts.Check(err)
	ended := make(chan struct{})
	ts.Defer(func() { close(ended) })
	status := ""
	if args[0] != "silent" {
		status = expand.Replace(ts.ReadFile(args[0]))
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" {
			http.NotFound(w, r)
			return
		}
		if status == "" {
			<-ended
		}
		io.WriteString(w, status)
	})}
	ts.Defer(func() { server.Close() })
	go server.Serve(l)
}
