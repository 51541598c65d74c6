package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
)

func newSSHConfigCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ssh-config [machine...]",
		Short: "Print configuration for the system's ssh, scp, rsync and editors",
		Long: `Prints a Host section for each machine that exists, with its port, key and pinned
host key, for OpenSSH's client and what is built on it.`,
		Example: `  hostctl ssh-config > ssh.config && ssh -F ssh.config core-01
  hostctl ssh-config >> ~/.ssh/config
  rsync -e 'ssh -F ssh.config' -a src/ core-01:src/`,
		ValidArgsFunction: a.completeMachines,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.runSSHConfig(args)
		},
	}
}

func (a *app) runSSHConfig(names []string) error {
	p, err := a.project()
	if err != nil {
		return err
	}
	names, err = a.made(p, names)
	if err != nil {
		return err
	}
	state, err := p.Load()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return hint.Wrap(errors.New("no machine was made here"), "hostctl up makes those of the machine file")
	}
	for _, name := range names {
		if _, ok := state.Machines[name]; !ok {
			return notCreated(name)
		}
	}
	keys, err := p.Keys()
	if err != nil {
		return err
	}
	var hosts []sshclient.Host
	for _, name := range names {
		ms := state.Machines[name]
		hosts = append(hosts, sshclient.Host{
			Name:         name,
			Addr:         project.Reachable(ms.SSH().HostAddr()),
			User:         ms.Image.Guest.User,
			IdentityFile: keys.File,
			KnownHosts:   p.KnownHosts(name),
			HostKeyAlias: p.HostKeyAlias(name),
		})
	}
	return sshclient.WriteConfig(a.streams.out, hosts)
}
