package libvirt

import (
	"context"
	"errors"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/hostctl/hostctl/internal/wait"
)

// watchEvery is how often a libvirtd that is gone is looked for.
const watchEvery = 500 * time.Millisecond

// Watch implements [provider.Watcher].
func (d *driver) Watch(ctx context.Context, changed func(name string)) error {
	for lost := false; ; lost = true {
		events, err := d.watchAgain(ctx)
		if err != nil {
			return err
		}
		if lost {
			changed("")
		}
		for e := range events {
			if name, ok := machineName(d.cfg.ProjectID(), e.Dom.Name); ok {
				changed(name)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// watchAgain subscribes as soon as libvirtd is there.
func (d *driver) watchAgain(ctx context.Context) (<-chan rpc.DomainEventLifecycleMsg, error) {
	var events <-chan rpc.DomainEventLifecycleMsg
	err := wait.Until(ctx, watchEvery, func(ctx context.Context) error {
		var err error
		if events, err = d.events(ctx); err != nil && !errors.Is(err, errStillRunning) {
			d.log.InfoContext(ctx, "cannot watch libvirt", "error", err)
		}
		return err
	})
	return events, err
}
