package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/qemu"
)

// providers makes each provider once, when it is first asked for.
type providers map[string]func() provider.Provider

// providers returns those for p's machines.
func (a *app) providers(p *project.Project) providers {
	return providers{
		"qemu": sync.OnceValue(func() provider.Provider {
			return qemu.New(qemu.Config{
				Root:   p.MachinesDir(),
				RunDir: p.RunDir,
				Logger: a.logger(),
			})
		}),
	}
}

func (p providers) get(name string) (provider.Provider, error) {
	make, ok := p[name]
	if !ok {
		return nil, fmt.Errorf("this hostctl has no provider %q", name)
	}
	return make(), nil
}

func (p providers) names() []string { return slices.Sorted(maps.Keys(p)) }
