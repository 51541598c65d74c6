package main

import (
	"fmt"
	"sync"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/qemu"
)

// providers returns the table of providers for p's machines. Each is made
// once, when it is first asked for.
func (a *app) providers(p *project.Project) func(name string) (provider.Provider, error) {
	table := map[string]func() provider.Provider{
		"qemu": sync.OnceValue(func() provider.Provider {
			return qemu.New(qemu.Config{
				Root:   p.MachinesDir(),
				RunDir: p.RunDir,
				Logger: a.logger(),
			})
		}),
	}
	return func(name string) (provider.Provider, error) {
		make, ok := table[name]
		if !ok {
			return nil, fmt.Errorf("this hostctl has no provider %q", name)
		}
		return make(), nil
	}
}
