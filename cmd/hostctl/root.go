package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
)

// usageTemplate is cobra's without what hostctl has no use for, and with the
// exit status.
const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
{{- if .HasAvailableSubCommands}}{{$commands := .Commands}}
{{- if .Groups}}
{{- range $group := .Groups}}

{{.Title}}
{{- range $commands}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}
{{- else}}

Commands:
{{- range $commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableInheritedFlags}}

Global flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" says more about a command.{{end}}

Exit status:
  0    done
  1    failure
  2    wrong usage, or an invalid machine file
  4    a guest runs but is not ready
  5    a machine is missing or in the wrong state
  130  interrupted
`

func newRootCmd(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "hostctl",
		Short: "Docker hosts in virtual machines, described by one file",
		Long: `hostctl boots the virtual machines that machine.hcl describes, as Docker hosts
of the CoreOS family, and points the local Docker client at them.`,
		Example: `  hostctl init                 # write a machine.hcl to start from
  hostctl up                   # boot its machines, wait until Docker answers
  eval "$(hostctl env)"        # point the Docker client at the machine
  docker info`,
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.started = true
			return a.checkFlags()
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newAgentCmd(a), newExportsCmd(a))

	f := root.PersistentFlags()
	f.StringVarP(&a.flags.dir, "directory", "C", "", "look for the machine file in `DIR` and its parents")
	f.StringVarP(&a.flags.file, "file", "f", "", "use this machine `FILE`")
	f.StringArrayVar(&a.flags.vars, "var", nil, "set a variable, as `NAME=VALUE` (repeatable)")
	f.StringArrayVar(&a.flags.varFiles, "var-file", nil, "read variables from `FILE` (repeatable)")
	f.StringVarP(&a.flags.output, "output", "o", "text", "`FORMAT` of what is printed: text or json")
	f.BoolVar(&a.flags.noColor, "no-color", false, "print without colours")
	f.BoolVarP(&a.flags.verbose, "verbose", "v", false, "say on standard error what is done, for finding faults")
	cobra.CheckErr(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)))

	root.SetVersionTemplate("hostctl {{.Version}}\n")
	root.InitDefaultVersionFlag()
	root.Flags().Lookup("version").Usage = "print hostctl's version"
	root.SetUsageTemplate(usageTemplate)
	root.SetHelpCommand(newHelpCmd())

	root.AddGroup(
		&cobra.Group{ID: "machines", Title: "Machines:"},
		&cobra.Group{ID: "use", Title: "Using them:"},
		&cobra.Group{ID: "file", Title: "The machine file:"},
		&cobra.Group{ID: "other", Title: "Other:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("machines", newUpCmd(a), newPlanCmd(a), newHaltCmd(a), newReloadCmd(a), newDestroyCmd(a), newStatusCmd(a), newGlobalStatusCmd(a))
	add("use", newEnvCmd(a), newSSHCmd(a), newSSHConfigCmd(a), newShareCmd(a), newUploadCmd(a), newDownloadCmd(a), newPortCmd(a), newLogsCmd(a), newSyncCmd(a))
	add("file", newInitCmd(a), newValidateCmd(a), newFmtCmd(a), newConfigCmd(a))
	add("other", newDoctorCmd(a), newImageCmd(a), newVersionCmd(a), newCompletionCmd(a))
	return root
}

// newHelpCmd is for those who write "hostctl help up"; the help itself tells
// of --help.
func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:    "help [command]",
		Short:  "Show how a command is used",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err == nil {
				err = unknownCommand(about, rest)
			}
			if err != nil {
				return &usageError{err}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// unknownCommand refuses the words after a command that only has others.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0])
	var names []string
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		if slices.Contains(c.SuggestFor, args[0]) {
			return hint.Wrap(err, "did you mean %q?", c.Name())
		}
		names = append(names, c.Name())
	}
	if near := hint.Nearest(args[0], names); near != "" {
		return hint.Wrap(err, "did you mean %q?", near)
	}
	return hint.Wrap(err, "its commands: %s", strings.Join(names, ", "))
}

// takes checks how many words follow a command.
func takes(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		var err error
		switch {
		case len(args) > most:
			err = fmt.Errorf("unexpected argument %q", args[most])
		case len(args) < least:
			err = errors.New("an argument is missing")
		}
		return hint.Wrap(err, "usage: %s", strings.TrimSuffix(cmd.UseLine(), " [flags]"))
	}
}
