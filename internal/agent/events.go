package agent

import (
	"context"
	"io"
	"slices"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/sync/events"
)

// telling tells a machine's guest what is changed in its shares.
type telling struct {
	of     string // what the guest was told to mount
	shares []events.Share
	stop   func()
}

// tell starts or ends telling the guest of file changes, by what it has mounted.
func (w *worker) tell(ctx context.Context, ms project.MachineState) {
	shares := told(ms)
	if w.telling != nil && (w.telling.of != ms.MountsSum || !slices.EqualFunc(w.telling.shares, shares, events.Share.Equal)) {
		w.stopTelling()
	}
	if w.telling != nil || len(shares) == 0 {
		return
	}
	w.telling = &telling{of: ms.MountsSum, shares: shares, stop: background(ctx, func(ctx context.Context) {
		w.agent.shares.events.Keep(ctx, shares, w.shell, w.keepUntold)
	})}
}

func (w *worker) stopTelling() {
	w.telling.stop()
	w.telling = nil
	w.keepUntold(nil)
}

// keepUntold notes why the guest is not told of file changes, for status.
func (w *worker) keepUntold(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.untold = err
}

// told are the shares of whose changes the guest is to be told.
func told(ms project.MachineState) []events.Share {
	var out []events.Share
	owner := ms.Image.Guest.UserID()
	for _, s := range ms.Mounted {
		if s.Embedded() && s.Events {
			out = append(out, events.Share{
				Export: s.Export(owner), Host: s.Host, Guest: cloudconfig.GuestPath(s.Guest, ms.Image.Guest), Ignore: s.Ignore,
			})
		}
	}
	return out
}

// shell connects to the guest, for commands in it.
func (w *worker) shell(ctx context.Context) (events.Guest, func(), error) {
	target, err := w.login()
	if err != nil {
		return nil, nil, err
	}
	client, err := sshclient.Connect(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	return shell{client}, func() { _ = client.Close() }, nil // the guest may be gone
}

// shell is a guest that runs commands.
type shell struct{ client *sshclient.Client }

func (s shell) Exec(ctx context.Context, command string, in io.Reader, out, errs io.Writer) (int, error) {
	return s.client.Exec(ctx, command, sshclient.Streams{In: in, Out: out, Err: errs})
}
