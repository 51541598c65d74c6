package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/libvirt"
	"github.com/hostctl/hostctl/provider/qemu"
)

// providers makes each provider once, when it is first asked for.
type providers map[string]func() (provider.Provider, error)

// providers returns those for p's machines.
func (a *app) providers(p *project.Project) providers {
	return providers{
		"qemu": sync.OnceValues(func() (provider.Provider, error) {
			return qemu.New(qemu.Config{
				Root:      p.MachinesDir(),
				RunDir:    p.RunDir,
				ProjectID: p.ID,
				Logger:    a.logger(),
			}), nil
		}),
		"libvirt": sync.OnceValues(func() (provider.Provider, error) {
			uri, pool, err := a.libvirt(p)
			if err != nil {
				return nil, err
			}
			return libvirt.New(libvirt.Config{
				URI:       uri,
				Pool:      pool,
				ProjectID: p.ID,
				Logger:    a.logger(),
			})
		}),
	}
}

func (p providers) get(name string) (provider.Provider, error) {
	make, ok := p[name]
	if !ok {
		return nil, fmt.Errorf("this hostctl has no provider %q", name)
	}
	return make()
}

// libvirt says where the project's machines of that provider are: where the state
// has them, else where the machine file wants them, else where libvirt's own programs
// would look, else at [libvirt.DefaultURI].
func (a *app) libvirt(p *project.Project) (uri, pool string, err error) {
	state, err := p.Load()
	if err != nil {
		return "", "", err
	}
	if state.LibvirtURI != "" {
		return state.LibvirtURI, state.LibvirtPool, nil
	}
	// Commands that do without the machine file find no machines here anyway.
	if config, err := a.config(); err == nil {
		uri, pool = config.Libvirt.URI, config.Libvirt.Pool
	}
	if uri == "" {
		uri = a.getenv("LIBVIRT_DEFAULT_URI")
	}
	if uri == "" {
		uri = libvirt.DefaultURI(context.Background())
	}
	return uri, pool, nil
}
