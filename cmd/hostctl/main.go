// Hostctl describes Docker hosts in one file, boots them as virtual machines
// and points the local Docker client at them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/hashicorp/hcl/v2"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
)

// version is set by the Makefile.
var version = "unknown"

func main() {
	keepInherited()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first interrupt asks for an orderly end; from then on the next one
	// has its usual effect, which is to end the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, streams{os.Stdin, os.Stdout, os.Stderr}, os.Environ()))
}

// streams are a command's standard streams.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Exit codes, in the order of docs/commands.md.
const (
	exitDone        = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotReady    = 4
	exitState       = 5
	exitInterrupted = 130
)

// run is the whole program but for ending the process.
func run(ctx context.Context, argv []string, s streams, environ []string) int {
	a := newApp(argv, s, environ)
	defer func() { a.ui().Close() }()
	root := newRootCmd(a)
	root.SetArgs(longVarFlags(argv[1:]))
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		// Cobra found fault with the words before any command began.
		if hint.Of(err) == "" {
			err = hint.Wrap(err, "%s --help shows how it is used", cmd.CommandPath())
		}
		err = &usageError{err}
	}
	return a.exit(ctx, err)
}

// usageError is a command line that means nothing.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// fileError is a machine file with mistakes.
type fileError struct{ diags hcl.Diagnostics }

func (e *fileError) Error() string { return e.diags.Error() }

// exitError ends the program with a code of somebody else's: a remote
// command's. There is nothing to add to what that command said.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// exit says what went wrong, once, and chooses the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	var (
		remote   *exitError
		usage    *usageError
		file     *fileError
		config   *lifecycle.ConfigError
		notReady *lifecycle.NotReadyError
		state    *lifecycle.StateError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &remote):
		return remote.code
	case ctx.Err() != nil:
		interrupted := errors.New("interrupted")
		if h := hint.Of(err); h != "" {
			interrupted = hint.Wrap(interrupted, "%s", h)
		}
		a.ui().Error(errors.Join(append(otherErrors(err, context.Cause(ctx)), interrupted)...))
		return exitInterrupted
	case errors.As(err, &file):
		a.writeDiags(file.diags)
		return exitUsage
	case errors.As(err, &config):
		diags, others := configDiags(err)
		a.ui().Error(errors.Join(others...))
		a.writeDiags(distinct(diags))
		return exitUsage
	}
	a.ui().Error(err)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &notReady):
		return exitNotReady
	case errors.As(err, &state):
		return exitState
	}
	return exitFailure
}

// otherErrors returns what went wrong with some of several machines before the
// interruption, which is the reason of the rest.
func otherErrors(err, interruption error) []error {
	joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err)
	if !ok {
		return nil
	}
	var out []error
	for _, e := range joined.Unwrap() {
		switch several, ok := errors.AsType[interface {
			error
			Unwrap() []error
		}](e); {
		case ok && errors.Is(several, interruption):
			out = append(out, otherErrors(several, interruption)...)
		case !errors.Is(e, interruption) && !errors.Is(e, context.Canceled):
			out = append(out, e)
		}
	}
	return out
}

// configDiags collects the diagnostics of all machines that failed, and the
// errors of those that failed for another reason.
func configDiags(err error) (diags hcl.Diagnostics, others []error) {
	config, ok := errors.AsType[*lifecycle.ConfigError](err)
	if !ok {
		return nil, []error{err}
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return config.Diags, nil
	}
	for _, e := range joined.Unwrap() {
		d, o := configDiags(e)
		diags, others = append(diags, d...), append(others, o...)
	}
	return diags, others
}

// distinct leaves out what was said before: machines of one block, and those that
// have a share in common, have its mistakes in common, too.
func distinct(diags hcl.Diagnostics) hcl.Diagnostics {
	var out hcl.Diagnostics
	for _, d := range diags {
		if !slices.ContainsFunc(out, func(o *hcl.Diagnostic) bool {
			return *o.Subject == *d.Subject && o.Summary == d.Summary && o.Detail == d.Detail
		}) {
			out = append(out, d)
		}
	}
	return out
}

// longVarFlags lets people write -var and -var-file as they do elsewhere:
// cobra would read -var as the flags -v, -a and -r.
func longVarFlags(args []string) []string {
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		for _, name := range []string{"-var", "-var-file"} {
			if arg == name || len(arg) > len(name) && arg[:len(name)+1] == name+"=" {
				arg = "-" + arg
			}
		}
		out = append(out, arg)
	}
	return out
}
