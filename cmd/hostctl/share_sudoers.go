package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/sync/exports"
)

func newShareSudoersCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "sudoers",
		Short: "Print the rule that lets sudo export shares without a password",
		Long: `Prints a rule for sudo. With it, hostctl up asks for no password when the NFS
server of this computer is to export a share (server = "system"). It permits one
command, which exports folders of yours, to private networks and to this computer,
with no rights but your own.

The program has to be root's, or whoever can change it could run anything as root.`,
		Example:           `  hostctl share sudoers | sudo tee ` + exports.SudoersFile,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return a.runShareSudoers()
		},
	}
}

func (a *app) runShareSudoers() error {
	c, err := a.exports()
	if err != nil {
		return err
	}
	if c.Owner.UID == 0 {
		return hint.Wrap(errors.New("root is asked for no password"), "run it as the user who is")
	}
	rule, err := exports.Sudoers(userName(c.Owner.UID), c.Owner.UID, c.Helper)
	if err != nil {
		return err
	}
	if a.json() {
		return a.ui().JSON(struct {
			File string `json:"file"`
			Rule string `json:"rule"`
		}{exports.SudoersFile, rule})
	}
	_, err = fmt.Fprint(a.streams.out, rule)
	return err
}

// userName is the name of the user with that uid, "" where it is not known.
func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}

// exports is how commands have the NFS server of this computer export folders.
func (a *app) exports() (*exports.Client, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &exports.Client{
		Server: exportServer(),
		Owner:  exports.Caller(a.getenv),
		Helper: exports.HelperFor(self, exportsCommand),
		Ask:    a.yield,
	}, nil
}
