package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/provider"
)

// waitSSH waits until the guest logs us in and shows the host key it was given.
func (b *boot) waitSSH(ctx context.Context) (string, error) {
	target, err := Target(b.engine.Project, b.name, b.state)
	if err != nil {
		return "", err
	}
	advice := fmt.Sprintf("hostctl logs %s shows the whole serial log; hostctl up waits again; hostctl destroy %s and hostctl up %s start afresh", b.name, b.name, b.name)
	err = b.guest(ctx, fmt.Sprintf("SSH on %s", target.Addr), advice, func(ctx context.Context) error {
		return b.engine.Guests.WaitSSH(ctx, target)
	})
	if err != nil {
		return "", err
	}
	if err := b.engine.tellNames(ctx, b.name); err != nil {
		return "", err
	}
	return target.Addr.String(), b.tellDocker(ctx, target)
}

// waitDocker waits until Docker answers through the address that env prints,
// and records that the machine is up.
func (b *boot) waitDocker(ctx context.Context) (string, error) {
	host := b.state.DockerHost()
	if host == "" {
		return "switched off", b.ready(ctx)
	}
	advice := fmt.Sprintf("hostctl logs %s --unit docker shows what Docker says; hostctl reload %s restarts the guest", b.name, b.name)
	err := b.guest(ctx, "Docker on "+host, advice, func(ctx context.Context) error {
		return b.engine.Guests.WaitDocker(ctx, host)
	})
	if err != nil {
		return "", err
	}
	if err := b.ready(ctx); err != nil {
		return "", err
	}
	b.follow(ctx)
	return host, nil
}

// follow has the agent forward what containers publish. Without it the guest
// is of use all the same.
func (b *boot) follow(ctx context.Context) {
	if !b.needsAgent() {
		return
	}
	if err := b.engine.agent().Sync(ctx, b.name); err != nil && ctx.Err() == nil {
		b.notice("the agent does not forward what containers publish: %v", err)
	}
}

// ready notes in the state that the machine is up.
func (b *boot) ready(ctx context.Context) error {
	ms, err := b.engine.note(ctx, b.name, b.state.DomainID, func(ms *project.MachineState) { ms.Ready = true })
	if err == nil {
		b.state = ms
	}
	return err
}

// Target is how hostctl logs in to a machine's guest.
func Target(p *project.Project, name string, ms project.MachineState) (sshclient.Target, error) {
	keys, err := p.Keys()
	if err != nil {
		return sshclient.Target{}, err
	}
	hostKey, err := p.HostKey(name)
	if err != nil {
		return sshclient.Target{}, err
	}
	return sshclient.Target{
		Addr:    project.Reachable(ms.SSH().HostAddr()),
		User:    ms.Image.Guest.User,
		Signer:  keys.Signer,
		HostKey: hostKey.Signer.PublicKey(),
	}, nil
}

var (
	errStopped   = errors.New("the guest stopped")
	errDestroyed = errors.New("the machine was destroyed meanwhile")
)

// guest waits for something inside the guest: fn gets a context that ends when
// the time is up or the guest has stopped. A failure carries the end of the
// serial log, and advice unless its cause has better.
func (b *boot) guest(ctx context.Context, what, advice string, fn func(context.Context) error) error {
	timeout := b.engine.Timeout
	if timeout == 0 {
		timeout = 3 * time.Minute
		if b.accel == "tcg" {
			// An emulated guest on a busy host needs minutes.
			timeout = 10 * time.Minute
		}
	}
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	watched, stop := context.WithCancelCause(waiting)
	var watching sync.WaitGroup
	defer watching.Wait() // no word of it after the step is done
	defer stop(nil)
	watching.Go(func() { b.watch(watched, what, stop) })

	err := fn(watched)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch cause := context.Cause(watched); {
	case errors.Is(cause, errDestroyed):
		return cause
	case errors.Is(cause, errStopped):
		err = hint.Wrap(cause, "hostctl logs %s shows its last words; hostctl up %s boots it again", b.name, b.name)
	}
	if h := hint.Of(err); h != "" {
		advice = h
	}
	return &NotReadyError{Waited: what, Err: err, Serial: b.serialTail(ctx), Advice: advice}
}

// watchInterval is how often a guest that boots is looked at: what it has
// printed is the hypervisor's to fetch, and a guest under emulation needs this
// host's processors itself.
const watchInterval = 2 * time.Second

// watch says what the guest is waited for and what it printed last, and ends
// the wait when it is gone.
func (b *boot) watch(ctx context.Context, what string, stop context.CancelCauseFunc) {
	b.progress("%s", what)
	printed := ""
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s, err := b.provider.Status(ctx, b.name)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, provider.ErrNotFound):
			stop(errDestroyed)
			return
		case err == nil && s.State == provider.Stopped:
			stop(errStopped)
			return
		}
		if line := lastWords(b.serialTail(ctx)); line != "" && line != printed {
			printed = line
			b.progress("%s (%s)", what, line)
		}
	}
}

// unseen is what a terminal obeys and does not show: ECMA-48's control sequences.
var unseen = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[[:cntrl:]]`)

// lastWords is the last line of a log in which there is something to read.
func lastWords(log string) string {
	lines := strings.Split(log, "\n")
	for _, line := range slices.Backward(lines) {
		if words := strings.TrimSpace(unseen.ReplaceAllString(line, "")); words != "" {
			return words
		}
	}
	return ""
}

// How much of the serial log an error quotes.
const (
	tailBytes = 8 << 10
	tailLines = 15
)

// serialTail returns the last lines of the guest's serial log, or "".
func (b *boot) serialTail(ctx context.Context) string {
	console, ok := provider.As[provider.Console](b.provider)
	if !ok {
		return ""
	}
	r, err := console.Console(ctx, b.name)
	if err != nil {
		return "" // the error that is being reported matters more
	}
	defer r.Close()
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
			_, _ = f.Seek(-tailBytes, io.SeekEnd) // a whole log is as good
		}
	}
	data, _ := io.ReadAll(r) // what could be read is worth quoting
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(data), "\r", "")), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return strings.Join(lines, "\n")
}
