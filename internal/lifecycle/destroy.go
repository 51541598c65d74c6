package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
)

// Destroy removes machines with their disks and everything hostctl keeps for
// them. After the last one nothing of the project is left but its own files.
// Machines that were never made are no error.
func (e *Engine) Destroy(ctx context.Context, names []string) error {
	if !e.Project.Exists() {
		return each(names, e.nothing)
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	return errors.Join(e.destroy(ctx, names), unlock())
}

func (e *Engine) destroy(ctx context.Context, names []string) error {
	jobs := make([]*job, len(names))
	for i, name := range names {
		jobs[i] = e.job(name)
	}
	before, err := e.Project.Load()
	if err != nil {
		return err
	}
	deleted := map[string]bool{}
	var mu sync.Mutex
	err = each(jobs, func(j *job) error {
		message, err := e.deleteOne(ctx, j)
		if err != nil || message != "" {
			j.finish(message, err)
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		deleted[j.name] = true
		return nil
	})
	// The state goes last: it is what a repeated destroy finds, and what knows
	// of the networks.
	networksErr := e.deleteNetworks(ctx, before, deleted)
	err = errors.Join(err, networksErr, each(jobs, func(j *job) error {
		switch {
		case !deleted[j.name]:
			return nil
		case networksErr != nil && hostOnly(before.Machines[j.name]):
			j.finish("", networksErr)
			return nil // once is enough
		}
		err := e.Project.RemoveMachine(j.name)
		j.finish("destroyed", err)
		return err
	}))
	if e.Exports != nil {
		err = errors.Join(err, e.exportFolders(ctx, ""))
	}
	state, loadErr := e.Project.Load()
	if err := errors.Join(err, loadErr); err != nil || len(state.Machines) > 0 {
		return err
	}
	if err := e.destroyUnknown(ctx); err != nil {
		return err
	}
	if err := e.agent().Stop(ctx); err != nil {
		return fmt.Errorf("end the agent: %w", err)
	}
	return e.Project.Destroy()
}

// deleteNetworks removes the networks that only the deleted machines were on.
func (e *Engine) deleteNetworks(ctx context.Context, state *project.State, deleted map[string]bool) error {
	used, gone := map[string]map[string]bool{}, map[string]bool{}
	for name, ms := range state.Machines {
		switch {
		case !hostOnly(ms):
		case deleted[name]:
			gone[ms.Provider] = true
		default:
			if used[ms.Provider] == nil {
				used[ms.Provider] = map[string]bool{}
			}
			for _, nic := range ms.NICs {
				used[ms.Provider][nic.Network] = true
			}
		}
	}
	return each(slices.Sorted(maps.Keys(gone)), func(name string) error {
		p, err := e.Provider(name)
		if err != nil {
			return err
		}
		return deleteNetworks(ctx, p, used[name])
	})
}

// deleteNetworks removes the project's networks that are not in use.
func deleteNetworks(ctx context.Context, p provider.Provider, used map[string]bool) error {
	hn, ok := provider.As[provider.HostOnlyNetworker](p)
	if !ok {
		return nil
	}
	names, err := hn.Networks(ctx)
	if err != nil {
		return err
	}
	return each(slices.Sorted(maps.Keys(names)), func(name string) error {
		if used[name] {
			return nil
		}
		if err := hn.DeleteNetwork(ctx, name); err != nil {
			return fmt.Errorf("delete network %q: %w", name, err)
		}
		return nil
	})
}

// destroyUnknown removes machines and networks that the state has lost, for
// instance because somebody deleted its file: they may still run.
func (e *Engine) destroyUnknown(ctx context.Context) error {
	names, err := e.Project.MachineDirs()
	if err != nil {
		return err
	}
	err = each(e.Providers, func(known string) error {
		p, err := e.Provider(known)
		if err != nil {
			return err
		}
		err = each(names, func(name string) error {
			return p.Delete(ctx, name) // what it does not know is no error
		})
		if err != nil {
			return err
		}
		return deleteNetworks(ctx, p, nil)
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		e.job(name).finish("destroyed", nil)
	}
	return nil
}

// deleteOne removes the machine's domain. A machine of which there is nothing
// gives a message that says so.
func (e *Engine) deleteOne(ctx context.Context, j *job) (string, error) {
	p, _, err := e.known(j.name)
	if err != nil || p == nil {
		return "not created", err
	}
	return "", j.do("delete", func() (string, error) {
		return "deleted", p.Delete(ctx, j.name)
	})
}

// renewOne deletes a machine that is made anew. Its ports, addresses and
// networks stay.
func (e *Engine) renewOne(ctx context.Context, j *job) error {
	if message, err := e.deleteOne(ctx, j); err != nil || message != "" {
		return err
	}
	return e.Project.RenewMachine(j.name, uuid.NewString())
}
