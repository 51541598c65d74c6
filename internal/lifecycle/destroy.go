package lifecycle

import (
	"context"
	"errors"
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
	err := each(names, func(name string) error {
		j := e.job(name)
		message, err := e.destroyOne(ctx, j)
		j.finish(message, err)
		return err
	})
	state, loadErr := e.Project.Load()
	if err := errors.Join(err, loadErr); err != nil || len(state.Machines) > 0 {
		return err
	}
	if err := e.destroyUnknown(ctx); err != nil {
		return err
	}
	return e.Project.Destroy()
}

// destroyUnknown removes machines that the state has lost, for instance
// because somebody deleted its file: they may still run.
func (e *Engine) destroyUnknown(ctx context.Context) error {
	names, err := e.Project.MachineDirs()
	if err != nil {
		return err
	}
	return each(names, func(name string) error {
		var errs []error
		for _, known := range e.Providers {
			p, err := e.Provider(known)
			if err == nil {
				err = p.Delete(ctx, name) // what it does not know is no error
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

func (e *Engine) destroyOne(ctx context.Context, j *job) (string, error) {
	p, _, err := e.known(j.name)
	if err != nil || p == nil {
		return "not created", err
	}
	err = j.do("delete", func() (string, error) {
		// The state goes last: it is what a repeated destroy finds.
		if err := p.Delete(ctx, j.name); err != nil {
			return "", err
		}
		return "deleted", e.Project.RemoveMachine(j.name)
	})
	return "destroyed", err
}
