package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2/maybe"
	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/machinefile"
)

func newFmtCmd(a *app) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt [file...]",
		Short: "Rewrite machine files in the usual layout",
		Long: `Rewrites the machine file, or the named ones, with the usual indentation and
alignment, and prints the names of those that changed. A file with a syntax
error is left as it is.`,
		Example: `  hostctl fmt
  hostctl fmt --check      # change nothing; fail when a file would change`,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.runFmt(args, check)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing; fail when a file would change")
	return cmd
}

func (a *app) runFmt(paths []string, check bool) error {
	if len(paths) == 0 {
		path, err := a.machineFile()
		if err != nil {
			return err
		}
		paths = []string{path}
	}
	changed := 0
	for _, path := range paths {
		c, err := a.format(path, check)
		if err != nil {
			return err
		}
		if c {
			changed++
		}
	}
	if check && changed > 0 {
		are := "is"
		if changed > 1 {
			are = "are"
		}
		return hint.Wrap(fmt.Errorf("%s %s not in the usual layout", count(changed, "file"), are), "hostctl fmt without --check rewrites what is named above")
	}
	return nil
}

func (a *app) format(path string, check bool) (changed bool, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	source, diags := machinefile.Parse(path, text)
	if diags.HasErrors() {
		a.source = source
		return false, &fileError{diags}
	}
	out := machinefile.Format(text)
	if bytes.Equal(out, text) {
		return false, nil
	}
	if _, err := fmt.Fprintln(a.streams.out, path); err != nil || check {
		return true, err
	}
	return true, replace(path, out)
}

// replace writes a file of the user's so that it is never half written, with
// the mode it had. A link stays a link.
func replace(path string, text []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return maybe.WriteFile(path, text, info.Mode().Perm())
}
