package lifecycle

import (
	"context"
	"errors"
	"slices"

	"github.com/hostctl/hostctl/machinefile"
)

// Reload restarts machines so that they follow the machine file again. One
// that was not up is brought up.
func (e *Engine) Reload(ctx context.Context, machines, all []*machinefile.Machine) error {
	boots, err := e.boots(machines)
	if err != nil {
		return err
	}
	for _, b := range boots {
		b.restart = true
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
			b.failed = true
			b.finish("", err)
		}
		return err
	})
	halted := slices.DeleteFunc(slices.Clone(boots), func(b *boot) bool { return b.failed })
	return errors.Join(err, e.bring(ctx, halted, all))
}
