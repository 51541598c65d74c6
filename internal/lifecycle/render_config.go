package lifecycle

import (
	"context"

	"github.com/hostctl/hostctl/cloudconfig"
)

// renderConfig makes the guest's first-boot configuration. It is the same at
// every call: the keys were made once.
func (b *boot) renderConfig(context.Context) (string, error) {
	keys, err := b.engine.Project.Keys()
	if err != nil {
		return "", err
	}
	if err := b.engine.Project.MakeMachineDir(b.name); err != nil {
		return "", err
	}
	hostKey, err := b.engine.Project.HostKey(b.name)
	if err != nil {
		return "", err
	}
	out, err := cloudconfig.Render(cloudconfig.Input{
		Hostname:       b.name,
		DockerPort:     b.state.Spec.DockerPort,
		Guest:          b.state.Image.Guest,
		AuthorizedKeys: []string{keys.Public},
		HostKey:        cloudconfig.HostKey{Private: hostKey.Private, Public: hostKey.Public},
	})
	if err != nil {
		return "", err
	}
	b.ignition = out.Ignition
	return "Ignition " + b.state.Image.Guest.IgnitionSpec, nil
}
