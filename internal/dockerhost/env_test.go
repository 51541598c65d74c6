package dockerhost_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/hostctl/hostctl/internal/dockerhost"
	"github.com/hostctl/hostctl/internal/golden"
)

var dialects = []dockerhost.Shell{
	dockerhost.POSIX, dockerhost.Fish, dockerhost.Tcsh, dockerhost.PowerShell, dockerhost.Cmd,
}

func TestWrite(t *testing.T) {
	t.Parallel()
	for _, shell := range dialects {
		t.Run(string(shell), func(t *testing.T) {
			t.Parallel()
			env := dockerhost.Env{
				Host:    "tcp://127.0.0.1:2375",
				Command: []string{"bin/hostctl", "-C", "examples/single", "env"},
			}
			golden.Equal(t, "env-"+string(shell)+".golden", written(t, env.Write, shell))
			env.Command = append(env.Command, "--unset")
			golden.Equal(t, "unset-"+string(shell)+".golden", written(t, env.WriteUnset, shell))
			weird := dockerhost.Env{
				Host:    `tcp://it's "a\b" $x %y% !z ‘q’ & | ;#`,
				Command: []string{`/opt/my "own" tools/hostctl`, "-C", "it's here!", "env"},
			}
			golden.Equal(t, "quoted-"+string(shell)+".golden", written(t, weird.Write, shell))
		})
	}
}

func TestWriteWithoutCommand(t *testing.T) {
	t.Parallel()
	got := written(t, dockerhost.Env{Host: "tcp://127.0.0.1:2375"}.Write, dockerhost.POSIX)
	want := "unset DOCKER_TLS_VERIFY;\nunset DOCKER_CERT_PATH;\nunset DOCKER_TLS;\nunset DOCKER_CONTEXT;\n" +
		"export DOCKER_HOST='tcp://127.0.0.1:2375';\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A script that evaluates the output of a failed command must find nothing.
func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		env   dockerhost.Env
		shell dockerhost.Shell
		want  string
	}{
		{"line break", dockerhost.Env{Host: "tcp://a\nb"}, dockerhost.POSIX, `DOCKER_HOST: "tcp://a\nb" has a control character`},
		{"NUL", dockerhost.Env{Host: "\x00"}, dockerhost.Tcsh, `DOCKER_HOST: "\x00" has a control character`},
		{"command", dockerhost.Env{Command: []string{"a\rb"}}, dockerhost.Cmd, `command "\"a\rb\"" has a control character`},
		{"shell", dockerhost.Env{}, "emacs", `unknown shell "emacs"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := tt.env.Write(&out, tt.shell)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if out.Len() > 0 {
				t.Errorf("wrote %q all the same", out.String())
			}
		})
	}
}

func written(t testing.TB, write func(io.Writer, dockerhost.Shell) error, shell dockerhost.Shell) string {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out, shell); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
