package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/sync/events"
)

const (
	clockInterval = 10 * time.Second
	// clockSlack is how wrong a clock may be: what keeps it in the guest, if
	// anything does, moves it by less.
	clockSlack = 2 * time.Second
	// clockTimeout bounds a login to an emulated guest, and setting its clock.
	clockTimeout = time.Minute
)

// clock keeps a guest's clock at the host's, which dates files in shares: programs
// such as make compare both. A guest falls behind while the host sleeps, or while
// somebody has paused it. Docker's answers have its time, so that it takes no login
// to see that.
type clock struct {
	host  string // Docker's
	shell func(context.Context) (events.Guest, func(), error)
	log   *slog.Logger
	stop  func()
}

// keepTime starts or ends keeping the clock of the machine's guest.
func (w *worker) keepTime(ctx context.Context, ms project.MachineState) {
	host := ms.DockerHost()
	if w.clock != nil && w.clock.host != host {
		w.stopClock()
	}
	if w.clock == nil && host != "" {
		c := &clock{host: host, shell: w.shell, log: w.log}
		c.stop = background(ctx, c.run)
		w.clock = c
	}
}

func (w *worker) stopClock() {
	w.clock.stop()
	w.clock = nil
}

func (c *clock) run(ctx context.Context) {
	docker := newDocker(c.host)
	defer docker.close()
	tick := time.NewTicker(clockInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		if off := c.off(ctx, docker); off != 0 {
			switch err := within(ctx, clockTimeout, c.set); {
			case err == nil:
				c.log.Info("set the guest's clock", "off", off.String())
			case ctx.Err() == nil:
				c.log.Warn("cannot set the guest's clock", "off", off.String(), "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// off is how far the guest's clock is ahead of the host's; 0: not by more than it may
// be, or the guest does not say.
func (c *clock) off(ctx context.Context, d *docker) time.Duration {
	before := time.Now()
	now, err := d.now(ctx)
	if err != nil {
		return 0
	}
	return ahead(now, before, time.Now())
}

// ahead is how far the whole second that a clock showed, some time between two
// moments, is ahead of them, if that is more than it may be.
func ahead(second, before, after time.Time) time.Duration {
	if d := second.Sub(after); d > clockSlack {
		return d
	}
	if d := second.Add(time.Second).Sub(before); d < -clockSlack {
		return d
	}
	return 0
}

func (c *clock) set(ctx context.Context) error {
	guest, done, err := c.shell(ctx)
	if err != nil {
		return err
	}
	defer done()
	var said bytes.Buffer
	now := strings.NewReader(cloudconfig.Clock(time.Now()))
	exit, err := guest.Exec(ctx, cloudconfig.ClockCommand, now, &said, &said)
	if err == nil && exit != 0 {
		err = fmt.Errorf("exit status %d: %s", exit, bytes.TrimSpace(said.Bytes()))
	}
	return err
}
