package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/provider"
)

func newLogsCmd(a *app) *cobra.Command {
	var o logOptions
	cmd := &cobra.Command{
		Use:   "logs [machine]",
		Short: "Show what a guest wrote: its serial console or its journal",
		Long: `Prints the serial log of a machine: everything the guest printed while it
booted, kept also when it is down. With --journal, the guest's journal, which
needs a running guest.`,
		Example: `  hostctl logs
  hostctl logs core-01 --follow
  hostctl logs --journal --unit docker -n 50`,
		Args:              takes(0, 1),
		ValidArgsFunction: a.completeMachine,
		SuggestFor:        []string{"log", "console"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runLogs(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.journal, "journal", false, "show the guest's journal instead of the serial log")
	f.StringVarP(&o.unit, "unit", "u", "", "only this systemd `UNIT` (implies --journal)")
	f.BoolVarP(&o.follow, "follow", "F", false, "go on printing what is written")
	f.IntVarP(&o.lines, "lines", "n", 0, "only the last `N` lines")
	return cmd
}

type logOptions struct {
	journal, follow bool
	unit            string
	lines           int
}

func (a *app) runLogs(ctx context.Context, args []string, o logOptions) error {
	if o.lines < 0 {
		return &usageError{fmt.Errorf("--lines %d: not a number of lines", o.lines)}
	}
	m, err := a.oneMachine(args)
	if err != nil {
		return err
	}
	if o.journal || o.unit != "" {
		return a.journal(ctx, m, o)
	}
	return a.serial(ctx, m, o)
}

func (a *app) serial(ctx context.Context, m *one, o logOptions) error {
	console, ok := provider.As[provider.Console](m.provider)
	if !ok {
		return hint.Wrap(fmt.Errorf("provider %s keeps no serial log", m.state.Provider), "hostctl logs --journal %s", m.name)
	}
	r, err := console.Console(ctx, m.name)
	if errors.Is(err, provider.ErrNotFound) {
		return notCreated(m.name)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	out := a.ui().Foreign(a.streams.out)
	defer out.Close()
	if err := tail(out, r, o.lines); err != nil || !o.follow {
		return err
	}
	// A serial log has no end to wait for: look for more of it, until the
	// user has seen enough or the guest is down.
	return wait.Until(ctx, 200*time.Millisecond, func(ctx context.Context) error {
		n, err := io.Copy(out, r)
		if err != nil {
			return wait.Permanent(err)
		}
		if n == 0 && m.running(ctx) != nil && ctx.Err() == nil {
			return nil
		}
		return errors.New("following")
	})
}

// tail copies the last n lines of r, or all of it when n is 0.
func tail(w io.Writer, r io.Reader, n int) error {
	if n == 0 {
		_, err := io.Copy(w, r)
		return err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	if last := len(lines) - 1; len(lines[last]) == 0 {
		lines = lines[:last] // after a final newline there is no line
	}
	_, err = w.Write(bytes.Join(lines[max(0, len(lines)-n):], nil))
	return err
}

func (a *app) journal(ctx context.Context, m *one, o logOptions) error {
	argv := []string{"sudo", "journalctl", "--no-pager"}
	if o.unit != "" {
		argv = append(argv, "--unit="+o.unit)
	}
	if o.lines > 0 {
		argv = append(argv, fmt.Sprintf("--lines=%d", o.lines))
	}
	if o.follow {
		argv = append(argv, "--follow")
	}
	return a.login(ctx, m, sshOptions{command: sshclient.Quote(argv...)})
}
