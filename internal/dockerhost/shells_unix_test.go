//go:build unix

package dockerhost_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hostctl/hostctl/internal/dockerhost"
)

// evaluation is one way in which people evaluate the output.
type evaluation struct {
	name    string
	shell   dockerhost.Shell
	argv    []string
	stdin   bool // the script is typed rather than passed
	script  string
	careful bool // it carries any value, not only those of one word
}

// A stand-in named hostctl prints the output. printenv shows what a program
// started from the shell gets.
const show = "\necho ---\nprintenv DOCKER_HOST || echo unset\nprintenv DOCKER_TLS_VERIFY || echo unset\n"

func evaluations() []evaluation {
	var all []evaluation
	for _, sh := range []string{"bash", "dash", "zsh"} {
		all = append(all,
			evaluation{sh, dockerhost.POSIX, []string{sh, "-c"}, false, `eval "$(hostctl)"` + show, true},
			evaluation{sh + " unquoted", dockerhost.POSIX, []string{sh, "-c"}, false, `eval $(hostctl)` + show, false})
	}
	return append(all,
		evaluation{"bash strict", dockerhost.POSIX, []string{"bash", "-euo", "pipefail", "-c"}, false, `eval "$(hostctl)"` + show, true},
		// Comments are not comments at an interactive zsh's prompt.
		evaluation{"zsh interactive", dockerhost.POSIX, []string{"zsh", "-f", "-i"}, true, `eval "$(hostctl)"` + show, true},
		evaluation{"zsh rc_quotes", dockerhost.POSIX, []string{"zsh", "-o", "rc_quotes", "-c"}, false, `eval "$(hostctl)"` + show, true},
		evaluation{"fish", dockerhost.Fish, []string{"fish", "--no-config", "-c"}, false, `hostctl | source` + show, true},
		evaluation{"fish eval", dockerhost.Fish, []string{"fish", "--no-config", "-c"}, false, `eval (hostctl)` + show, true},
		evaluation{"tcsh", dockerhost.Tcsh, []string{"tcsh", "-f"}, true, "eval \"`hostctl`\"" + show, true},
		evaluation{"tcsh unquoted", dockerhost.Tcsh, []string{"tcsh", "-f"}, true, "eval `hostctl`" + show, false},
		evaluation{"tcsh backslash_quote", dockerhost.Tcsh, []string{"tcsh", "-f"}, true, "set backslash_quote\neval \"`hostctl`\"" + show, true},
		evaluation{"tcsh interactive", dockerhost.Tcsh, []string{"tcsh", "-f", "-i"}, true, "set prompt=''\neval \"`hostctl`\"" + show, true},
	)
}

// evaluate runs the output of env in the shell and returns what it printed.
func (e evaluation) evaluate(t *testing.T, output string) string {
	t.Helper()
	if _, err := exec.LookPath(e.argv[0]); err != nil {
		t.Fatalf("%v: this test needs the Debian packages bash, dash, zsh, fish and tcsh (make setup)", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "output"), []byte(output), 0o600); err != nil {
		t.Fatal(err)
	}
	standIn := fmt.Sprintf("#!/bin/sh\nexec cat '%s/output'\n", dir)
	if err := os.WriteFile(filepath.Join(dir, "hostctl"), []byte(standIn), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	argv := e.argv
	if !e.stdin {
		argv = append(argv[:len(argv):len(argv)], e.script)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	if e.stdin {
		cmd.Stdin = strings.NewReader(e.script)
	}
	cmd.Env = []string{
		"PATH=" + dir + ":/usr/bin:/bin", "HOME=" + dir, "LC_ALL=C.UTF-8", "TERM=dumb",
		"DOCKER_TLS_VERIFY=1", "DOCKER_HOST=tcp://192.0.2.1:1",
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && !strings.HasSuffix(e.name, "interactive") {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return stdout.String()
}

// output is what show printed: an interactive shell also says things of its
// own, before and, at the end of its input, after.
func (e evaluation) output(s string) string {
	_, s, _ = strings.Cut(s, "---\n")
	if e.name == "tcsh interactive" {
		s = strings.TrimSuffix(s, "exit\n")
	}
	return s
}

// Every shell ends up with exactly the value, whatever is in it.
func FuzzEvaluate(f *testing.F) {
	for _, v := range []string{
		"tcp://[::1]:2375", "it's '' \"q\" \"\"", `\ \\ \' \" a\`, `!a !! !$ \! a!`, "$HOME ${HOME} $(id) `id` $'a' $", "  a  b  ",
		"# a #b ; & | < > <(a)", "* ? [a] {a,b} ~ ~root", "~root", "-n", "^a^b %i %HOME% (a) () a,b=@(c) a&&b||c", "é 日本語 ‘a’ \u00a0",
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if value == "" || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			t.Skip("refused, or not text")
		}
		env := dockerhost.Env{Host: value, Command: []string{"hostctl", "-C", value, "env"}}
		for _, e := range evaluations() {
			if !e.careful {
				continue
			}
			if got, want := e.output(e.evaluate(t, written(t, env.Write, e.shell))), value+"\nunset\n"; got != want {
				t.Errorf("%s: got %q, want %q", e.name, got, want)
			}
		}
	})
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	env := dockerhost.Env{Host: "tcp://127.0.0.1:2375", Command: []string{"hostctl", "-C", "it's here", "env"}}
	for _, e := range evaluations() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			if got, want := e.output(e.evaluate(t, written(t, env.Write, e.shell))), "tcp://127.0.0.1:2375\nunset\n"; got != want {
				t.Errorf("set: got %q, want %q", got, want)
			}
			if got, want := e.output(e.evaluate(t, written(t, env.WriteUnset, e.shell))), "unset\nunset\n"; got != want {
				t.Errorf("unset: got %q, want %q", got, want)
			}
		})
	}
}

// The shell that evaluates the output is found among the processes above,
// whatever the login shell is. This test runs itself under each of them.
func TestAncestors(t *testing.T) {
	const inside = "HOSTCTL_TEST_DETECT"
	if os.Getenv(inside) != "" {
		s, err := dockerhost.Detect(dockerhost.Ancestors(), os.Getenv("SHELL"))
		fmt.Fprintf(os.Stdout, "detected %s %v\n", s, err)
		return
	}
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/usr/bin/env fish\neval $argv\ntrue\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	run := fmt.Sprintf("'%s' -test.run='^TestAncestors$'", self)
	for _, tt := range []struct {
		argv []string
		want dockerhost.Shell
	}{
		{[]string{"bash", "-c", run + "; true"}, dockerhost.POSIX},
		{[]string{"zsh", "-c", run + "; true"}, dockerhost.POSIX},
		{[]string{"fish", "-c", run + "; true"}, dockerhost.Fish},
		{[]string{"tcsh", "-f", "-c", run + "; true"}, dockerhost.Tcsh},
		{[]string{"fish", "-c", "env " + run + "; true"}, dockerhost.Fish},
		{[]string{script, run}, dockerhost.Fish}, // the process is named "script"
	} {
		t.Run(filepath.Base(tt.argv[0]), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), tt.argv[0], tt.argv[1:]...)
			cmd.Env = append(os.Environ(), inside+"=1", "SHELL=/bin/sh")
			out, err := cmd.CombinedOutput()
			if want := fmt.Sprintf("detected %s <nil>\n", tt.want); err != nil || !strings.HasPrefix(string(out), want) {
				t.Errorf("%v: %v, %s; want %s", tt.argv, err, out, want)
			}
		})
	}
}
