//go:build !windows

package run_test

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/run"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out, err := run.Exec{}.Run(t.Context(), "sh", "-c", "echo out; echo err >&2")
	if err != nil || string(out) != "out\n" {
		t.Errorf("%q, %v; want the standard output alone", out, err)
	}
}

// A failure says in one line what the program said last.
func TestRunFailure(t *testing.T) {
	t.Parallel()
	out, err := run.Exec{}.Run(t.Context(), "/bin/sh", "-c", "echo half; echo first >&2; echo 'sh: no such image' >&2; exit 3")
	if want := "sh: no such image"; err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 3 || string(out) != "half\n" {
		t.Errorf("%v with output %q", err, out)
	}
	if failed, ok := errors.AsType[*run.Error](err); !ok || failed.Stderr != "first\nsh: no such image" {
		t.Errorf("%#v does not have all of standard error", err)
	}
}

func TestRunMissing(t *testing.T) {
	t.Parallel()
	_, err := run.Exec{}.Run(t.Context(), "no-such-program-anywhere")
	if !run.IsMissing(err) {
		t.Errorf("%v is not told from a failure", err)
	}
}

// A program that is cut off gets to end in order, and the error says why it
// had to.
func TestRunCancelled(t *testing.T) {
	t.Parallel()
	cause := errors.New("the user has had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	out, err := run.Exec{}.Run(ctx, "sh", "-c", "trap 'echo ended in order; exit 1' TERM; while :; do sleep 0.01; done")
	if !errors.Is(err, cause) || string(out) != "ended in order\n" {
		t.Errorf("%v with output %q", err, out)
	}
}
