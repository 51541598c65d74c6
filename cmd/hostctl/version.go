package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Print hostctl's version",
		Example:           "  hostctl version -o json",
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			platform := runtime.GOOS + "/" + runtime.GOARCH
			if a.json() {
				return a.ui().JSON(struct {
					Version  string `json:"version"`
					Go       string `json:"go"`
					Platform string `json:"platform"`
				}{version, runtime.Version(), platform})
			}
			_, err := fmt.Fprintf(a.streams.out, "hostctl %s %s %s\n", version, platform, runtime.Version())
			return err
		},
	}
}
