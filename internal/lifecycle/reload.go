package lifecycle

import (
	"context"
	"errors"

	"github.com/hostctl/hostctl/machinefile"
)

// Reload restarts machines so that they follow the machine file again. One
// that was not up is brought up.
func (e *Engine) Reload(ctx context.Context, machines, all []*machinefile.Machine) error {
	boots, err := e.boots(machines)
	if err != nil {
		return err
	}
	if err := e.prepare(ctx, boots); err != nil {
		return err
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	return errors.Join(e.reload(ctx, boots, all), unlock())
}

func (e *Engine) reload(ctx context.Context, boots []*boot, all []*machinefile.Machine) error {
	err := each(boots, func(b *boot) error {
		_, err := e.haltOne(ctx, b.job)
		if err != nil {
			b.finish("", err)
		}
		return err
	})
	if err != nil {
		return err
	}
	return e.bring(ctx, boots, all)
}
