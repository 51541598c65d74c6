package lifecycle

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/wait"
)

// silentTime is how long a guest may say nothing that has just answered: one that
// boots on a busy host, emulated, stands still for half a minute at times.
const silentTime = time.Minute

// tell has the guest run a command that reads text. A guest that does not answer
// is asked again, so that running the command twice must be the same as once.
func (e *Engine) tell(ctx context.Context, target sshclient.Target, command, text string) error {
	start := time.Now()
	return wait.Until(ctx, time.Second, func(ctx context.Context) error {
		err := e.Guests.Exec(ctx, target, command, strings.NewReader(text))
		if err != nil && (!silent(err) || time.Since(start) > silentTime) {
			err = wait.Permanent(err)
		}
		return err
	})
}

// silent reports whether the guest did not answer in time.
func silent(err error) bool {
	timed, ok := errors.AsType[net.Error](err)
	return ok && timed.Timeout() || errors.Is(err, sshclient.ErrNoAnswer)
}
