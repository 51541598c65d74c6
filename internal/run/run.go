// Package run executes the programs hostctl depends on, without a shell, and
// turns their failures into values.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Runner executes a program and waits for it. Implementations are safe for
// concurrent use.
type Runner interface {
	// Run returns the program's standard output. A program that is missing,
	// fails or is cut off by ctx gives an *[Error].
	Run(ctx context.Context, argv ...string) ([]byte, error)
}

// Error is a program that did not succeed.
type Error struct {
	Argv   []string
	Stderr string // trimmed
	Err    error  // what exec said: errors.Is(err, exec.ErrNotFound) works
}

func (e *Error) Error() string {
	name := filepath.Base(e.Argv[0])
	if line := lastLine(e.Stderr); line != "" {
		return fmt.Sprintf("%s: %s", name, strings.TrimPrefix(line, name+": "))
	}
	return fmt.Sprintf("%s: %v", name, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// Exec is the Runner that executes for real. The zero value is ready.
type Exec struct{}

var _ Runner = Exec{}

// Run implements [Runner]. When ctx ends, the program gets its interrupt
// first and is killed two seconds later.
func (Exec) Run(ctx context.Context, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return stdout.Bytes(), &Error{Argv: argv, Stderr: strings.TrimSpace(stderr.String()), Err: err}
	}
	return stdout.Bytes(), nil
}

// IsMissing reports whether err says that the program is not installed.
func IsMissing(err error) bool { return errors.Is(err, exec.ErrNotFound) }

func lastLine(s string) string {
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		return s[i+1:]
	}
	return s
}
