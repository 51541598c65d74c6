package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
)

func newCompletionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands and machines",
		Long: `Prints a script that teaches a shell to complete hostctl's commands, flags and
the names of your machines. In bash it needs the package bash-completion.`,
		Example: `  source <(hostctl completion bash)
  hostctl completion zsh > "${fpath[1]}/_hostctl"
  hostctl completion fish > ~/.config/fish/completions/hostctl.fish
  hostctl completion powershell | Out-String | Invoke-Expression`,
		Args:      takes(1, 1),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), a.streams.out
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return &usageError{hint.Wrap(fmt.Errorf("no completion for shell %q", args[0]), "known shells: bash, zsh, fish, powershell")}
		},
	}
}
