package lifecycle

import (
	"context"
	"errors"

	"github.com/hostctl/hostctl/machinefile"
)

// Reload restarts machines so that they follow the machine file again. One
// that was not up is brought up.
func (e *Engine) Reload(ctx context.Context, machines, all []*machinefile.Machine) error {
	boots, _, err := e.boots(ctx, machines, all)
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
	_ = each(boots, func(b *boot) error { // await returns the machines' errors
		if _, err := e.haltOne(ctx, b.job); err != nil {
			b.fail(err)
		}
		return nil
	})
	e.start(ctx, boots, all)
	err = errors.Join(unlock(), e.await(ctx, boots))
	e.tellOthers(ctx, boots)
	return err
}
