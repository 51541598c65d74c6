package dockerhost_test

import (
	"slices"
	"testing"

	"github.com/hostctl/hostctl/internal/dockerhost"
	"github.com/hostctl/hostctl/internal/hint"
)

func TestDetect(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		ancestors []string
		login     string
		want      dockerhost.Shell
	}{
		{"parent", []string{"bash", "/usr/bin/bash"}, "/bin/bash", dockerhost.POSIX},
		{"another shell than the login shell", []string{"fish", "/usr/bin/fish", "bash", "/usr/bin/bash"}, "/bin/bash", dockerhost.Fish},
		{"script goes by its own name", []string{"setup.sh", "/usr/bin/zsh"}, "/usr/bin/fish", dockerhost.POSIX},
		{"above make", []string{"make", "/usr/bin/make", "sh", "/usr/bin/dash"}, "", dockerhost.POSIX},
		{"login shell's dash", []string{"-tcsh"}, "", dockerhost.Tcsh},
		{"windows", []string{"pwsh.exe", `C:\Program Files\PowerShell\7\pwsh.exe`}, "", dockerhost.PowerShell},
		{"windows path only", []string{`C:\Windows\System32\CMD.EXE`}, "", dockerhost.Cmd},
		{"git bash", []string{`C:\Program Files\Git\usr\bin\bash.exe`}, "/usr/bin/bash", dockerhost.POSIX},
		{"no shell above", []string{"sshd", "/usr/sbin/sshd"}, "/usr/bin/tcsh", dockerhost.Tcsh},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := dockerhost.Detect(slices.Values(tt.ancestors), tt.login)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestDetectGivesUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, login, want, hint string }{
		{"nothing known", "", "cannot tell which shell this is", "say so with --shell: bash, cmd, fish, powershell, sh, tcsh, zsh"},
		{"no shell", "/usr/sbin/nologin", `unknown shell "/usr/sbin/nologin"`, "known shells are bash, cmd, fish, powershell, sh, tcsh, zsh"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := dockerhost.Detect(slices.Values([]string{"systemd"}), tt.login)
			if err == nil || err.Error() != tt.want || hint.Of(err) != tt.hint {
				t.Errorf("got %v (%s)", err, hint.Of(err))
			}
		})
	}
}

func TestParseShell(t *testing.T) {
	t.Parallel()
	for _, name := range dockerhost.Shells() {
		if _, err := dockerhost.ParseShell(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := dockerhost.ParseShell("fsh")
	if err == nil || err.Error() != `unknown shell "fsh"` {
		t.Errorf("got %v", err)
	}
	if got, want := hint.Of(err), `did you mean "fish"? known shells are bash, cmd, fish, powershell, sh, tcsh, zsh`; got != want {
		t.Errorf("hint %s, want %s", got, want)
	}
}

func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		_, _ = dockerhost.Detect(dockerhost.Ancestors(), "/bin/sh")
	}
}
