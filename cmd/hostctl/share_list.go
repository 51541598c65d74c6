package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/machinefile"
)

func newShareListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list [machine...]",
		Aliases: []string{"ls"},
		Short:   "Show the shares of the machine file",
		Long: `Shows which folders of this computer the machine file shares with which machines,
all of them or the named ones. Looks at nothing but the machine file.`,
		Example: `  hostctl share list
  hostctl share list core-01 -o json`,
		ValidArgsFunction: a.completeMachines,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.runShareList(args)
		},
	}
}

// listedShare is a share of the machine file.
type listedShare struct {
	Machine      string   `json:"machine"`
	Name         string   `json:"name"`
	Type         string   `json:"type"`
	Host         string   `json:"host"`
	Guest        string   `json:"guest"`
	Create       bool     `json:"create"`
	ReadOnly     bool     `json:"readonly"`
	Server       string   `json:"server,omitempty"`    // nfs
	MountOptions []string `json:"mount_options"`       // nfs
	Events       bool     `json:"events"`              // nfs
	Direction    string   `json:"direction,omitempty"` // sftp
	Ignore       []string `json:"ignore"`
}

func (a *app) runShareList(names []string) error {
	config, err := a.config()
	if err != nil {
		return err
	}
	machines, err := choose(config, names)
	if err != nil {
		return err
	}
	shares := []listedShare{}
	for _, m := range machines {
		for _, s := range m.Shares {
			shares = append(shares, listedShare{
				Machine: m.Name, Name: s.Name, Type: string(s.Type), Host: s.Host, Guest: s.Guest, Create: s.Create,
				ReadOnly: s.ReadOnly, Server: string(s.Server), MountOptions: append([]string{}, s.MountOptions...),
				Events: s.Events, Direction: string(s.Direction), Ignore: append([]string{}, s.Ignore...),
			})
		}
	}
	if a.json() {
		return a.ui().JSON(shares)
	}
	if len(shares) == 0 {
		a.ui().Notice("no share is in the machine file")
		return nil
	}
	rows := make([][]string, len(shares))
	for i, s := range shares {
		rows[i] = []string{s.Machine, s.Name, s.Type, s.Host, s.Guest, shareText(s)}
	}
	return a.ui().Table([]ui.Column{{Name: "MACHINE"}, {Name: "SHARE"}, {Name: "TYPE"}, {Name: "HOST"}, {Name: "GUEST"}, {Name: "HOW"}}, rows)
}

// shareText says in what a share differs from others of its type.
func shareText(s listedShare) string {
	var texts []string
	if s.ReadOnly {
		texts = append(texts, "read-only")
	}
	if s.Server == string(machinefile.SystemServer) {
		texts = append(texts, "system's server")
	}
	if s.Direction == string(machinefile.Both) {
		texts = append(texts, "both ways")
	}
	if len(texts) == 0 {
		return "-"
	}
	return strings.Join(texts, ", ")
}
