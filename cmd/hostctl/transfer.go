package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/pkg/sftp"
	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/transfer"
)

// transferOptions are the flags of upload and download.
type transferOptions struct{ sudo bool }

func (o *transferOptions) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.sudo, "sudo", false, "read and write as the guest's root")
}

// guestPath takes apart a word that names a place in a machine: MACHINE:PATH,
// or :PATH where there is one machine. The path is relative to the home
// directory there. What has a slash before the colon is a file of this
// computer's, such as "./a:b".
func guestPath(word string) (machine, path string, ok bool) {
	machine, path, ok = strings.Cut(word, ":")
	if !ok || strings.ContainsAny(machine, `/\.`) || runtime.GOOS == "windows" && len(machine) == 1 {
		return "", "", false
	}
	if path == "~" {
		path = ""
	}
	// SFTP starts there.
	path = strings.TrimPrefix(path, "~/")
	if path == "" {
		path = "."
	}
	return machine, path, true
}

// home is where relative paths of the guest begin.
const home = "/home/core"

// transferring is a copy that is under way.
type transferring struct {
	client  *sftp.Client
	options transfer.Options
	shares  []project.ShareSpec // that the guest was told of last
}

// transferred is what -o json prints.
type transferred struct {
	Machine string `json:"machine"`
	transfer.Result
	Seconds float64 `json:"seconds"`
}

// transfer connects to a machine, "" being the only one, and says how the
// copying goes and what was copied.
func (a *app) transfer(ctx context.Context, step, machine string, o transferOptions, do func(context.Context, *transferring) (transfer.Result, error)) error {
	var names []string
	if machine != "" {
		names = []string{machine}
	}
	m, err := a.oneMachine(names)
	if err != nil {
		return err
	}
	if err := m.running(ctx); err != nil {
		return err
	}
	report := func(ev lifecycle.Event) {
		if !a.json() { // which prints one object, at the end
			ev.Time, ev.Machine, ev.Step = time.Now(), m.name, step
			a.ui().Reporter().Report(ev)
		}
	}
	began := time.Now()
	report(lifecycle.Event{Kind: lifecycle.StepStarted}) // a guest that hangs takes a while
	result, err := a.transferOver(ctx, m, o, do, func(done, total int64) {
		report(lifecycle.Event{Kind: lifecycle.Progress, Done: done, Total: total})
	})
	took := time.Since(began).Seconds()
	for _, name := range result.Skipped {
		a.ui().Warn("%s is left out: it is neither a file nor a directory nor a link", name)
	}
	if err != nil {
		report(lifecycle.Event{Kind: lifecycle.MachineFailed, Seconds: took, Error: err.Error()})
		return explainTransfer(m.name, o, err)
	}
	if a.json() {
		return a.ui().JSON(transferred{m.name, result, took})
	}
	report(lifecycle.Event{Kind: lifecycle.MachineDone, Seconds: took, Message: transferText(result)})
	return nil
}

// transferOver connects to the machine and has do copy.
func (a *app) transferOver(ctx context.Context, m *one, o transferOptions, do func(context.Context, *transferring) (transfer.Result, error), progress func(done, total int64)) (transfer.Result, error) {
	client, err := a.dial(ctx, m)
	if err != nil {
		return transfer.Result{}, err
	}
	defer func() { _ = client.Close() }() // what was copied is known by then
	files, err := client.SFTP(ctx, o.sudo, transfer.SFTP()...)
	if err != nil {
		return transfer.Result{}, err
	}
	defer func() { _ = files.Close() }() // as above
	t := &transferring{client: files, shares: m.state.Mounted}
	t.options.Progress = progress
	return do(ctx, t)
}

// transferText says what was copied.
func transferText(r transfer.Result) string {
	parts := []string{count(r.Files, "file")}
	switch {
	case r.Directories == 1:
		parts = append(parts, "1 directory")
	case r.Directories > 1:
		parts = append(parts, fmt.Sprintf("%d directories", r.Directories))
	}
	if r.Links > 0 {
		parts = append(parts, count(r.Links, "link"))
	}
	return strings.Join(append(parts, units.HumanSizeWithPrecision(float64(r.Bytes), 3)), ", ")
}

// explainTransfer adds what to do about a failure.
func explainTransfer(machine string, o transferOptions, err error) error {
	guest, inGuest := errors.AsType[*transfer.GuestError](err)
	switch {
	case inGuest && sshclient.Lost(err):
		return hint.Wrap(sshclient.ErrLost, "hostctl status shows whether %s runs; then run it again", machine)
	case errors.Is(err, sshclient.ErrNoSFTP) && !o.sudo:
		return hint.Wrap(err, `the guest's sshd needs a line "Subsystem sftp internal-sftp"`)
	case inGuest && errors.Is(err, fs.ErrPermission) && !o.sudo:
		return hint.Wrap(err, "--sudo reads and writes as the guest's root")
	case inGuest && errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(guest.Path, "*?["):
		return hint.Wrap(err, "patterns are not expanded in the guest: name the file or its directory")
	}
	return err
}

// inReadOnlyShare says of a failure to write below the folder of a read-only
// share what it is. SFTP has no code for it, and the guest's kernel knows of none
// where the share is mounted writable for its events: the server refuses.
func inReadOnlyShare(shares []project.ShareSpec, err error) error {
	guest, ok := errors.AsType[*transfer.GuestError](err)
	if !ok || !sshclient.Failed(err) && !errors.Is(err, sshclient.ErrReadOnly) {
		return err
	}
	at := guest.Path
	if !path.IsAbs(at) {
		at = path.Join(home, at)
	}
	for _, s := range shares {
		if at = path.Clean(at); s.ReadOnly && (at == s.Guest || strings.HasPrefix(at, s.Guest+"/")) {
			err = &transfer.GuestError{Path: guest.Path, Err: fmt.Errorf("the share %q is read-only", s.Name)}
			return hint.Wrap(err, "copy it to %s on this computer, or take readonly out of the share's block and run hostctl up", s.Host)
		}
	}
	return err
}

// completeGuestPath offers the machines, with the colon that follows, and files
// of this computer where none is meant.
func (a *app) completeGuestPath(cmd *cobra.Command, prefix string) ([]string, cobra.ShellCompDirective) {
	var places []string
	names, _ := a.completeMachines(cmd, nil, prefix)
	for _, name := range names {
		if place := name + ":"; strings.HasPrefix(place, prefix) {
			places = append(places, place)
		}
	}
	if len(places) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return places, cobra.ShellCompDirectiveNoSpace
}
