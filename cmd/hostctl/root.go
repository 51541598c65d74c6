package main

import (
	"github.com/spf13/cobra"
)

const exitStatusHelp = `Exit status:
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
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.started = true
			return a.checkFlags()
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true

	f := root.PersistentFlags()
	f.StringVarP(&a.flags.dir, "directory", "C", "", "look for the machine file in `DIR` and its parents")
	f.StringVarP(&a.flags.file, "file", "f", "", "use this machine `FILE`")
	f.StringArrayVar(&a.flags.vars, "var", nil, "set a variable, as `NAME=VALUE` (repeatable)")
	f.StringArrayVar(&a.flags.varFiles, "var-file", nil, "read variables from `FILE` (repeatable)")
	f.StringVarP(&a.flags.output, "output", "o", "text", "`FORMAT` of what is printed: text or json")
	f.BoolVar(&a.flags.noColor, "no-color", false, "print without colours")
	f.BoolVarP(&a.flags.verbose, "verbose", "v", false, "say on standard error what is done, for finding faults")
	cobra.CheckErr(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)))

	root.SetUsageTemplate(root.UsageTemplate() + "\n" + exitStatusHelp)
	root.SetHelpCommand(&cobra.Command{Hidden: true})

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
	add("machines", newUpCmd(a), newHaltCmd(a), newReloadCmd(a), newDestroyCmd(a), newStatusCmd(a), newGlobalStatusCmd(a))
	add("use", newEnvCmd(a), newSSHCmd(a), newSSHConfigCmd(a), newPortCmd(a), newLogsCmd(a))
	add("file", newInitCmd(a), newValidateCmd(a), newFmtCmd(a), newConfigCmd(a))
	add("other", newImageCmd(a), newVersionCmd(a), newCompletionCmd(a))
	return root
}
