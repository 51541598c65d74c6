package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/machinefile"
)

func newInitCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init [name]",
		Short: "Write a machine.hcl to start from",
		Long: `Writes a commented machine.hcl with one machine into the working directory (or
that of -C). A file that is there already is left as it is.`,
		Example: `  hostctl init
  hostctl init build-host`,
		Args:              takes(0, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			name := "core-01"
			if len(args) > 0 {
				name = args[0]
			}
			return a.runInit(name)
		},
	}
}

func (a *app) runInit(name string) error {
	if err := machinefile.CheckName(name); err != nil {
		return &usageError{err}
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, machinefile.FileName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return hint.Wrap(fmt.Errorf("%s exists already", path), "edit it, or run hostctl up")
	}
	if err != nil {
		return err
	}
	_, err = f.Write(machinefile.Template(name))
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	_, err = fmt.Fprintf(a.streams.out, "wrote %s; next: hostctl up\n", path)
	return err
}
