package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/pkg/sftp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/sync/mirror"
)

type syncOptions struct{ watch, dryRun bool }

func newSyncCmd(a *app) *cobra.Command {
	var o syncOptions
	cmd := &cobra.Command{
		Use:   "sync [machine...]",
		Short: "Mirror shares of type sftp into machines",
		Long: `Brings what changed on this computer to the guests of the named machines, or of
all that run, and with direction = "both" what changed there back. Two changes of
one file are both kept: the earlier one beside the later, under a name such as
notes.conflict-host-20261125T173000.txt.`,
		Example: `  hostctl sync
  hostctl sync --dry-run core-01
  hostctl sync --watch`,
		ValidArgsFunction: a.completeMachines,
		SuggestFor:        []string{"rsync", "mirror"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runSync(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.watch, "watch", "w", false, "go on mirroring what changes, until interrupted")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "say what would be done, and change nothing")
	return cmd
}

// syncing is a share that is to be mirrored into a machine.
type syncing struct {
	machine *one
	share   *machinefile.Share
	config  mirror.Config
}

// synced is what became of it, as -o json prints it.
type synced struct {
	Machine string         `json:"machine"`
	Share   string         `json:"share"`
	Changes []syncedChange `json:"changes"`
	Skipped []syncedPath   `json:"skipped"`
	Files   int            `json:"files"`
	Bytes   int64          `json:"bytes"`
	Seconds float64        `json:"seconds"`
	Error   string         `json:"error,omitempty"`
	Hint    string         `json:"hint,omitempty"`
}

type syncedChange struct {
	Action string `json:"action"` // put, chmod, remove, aside
	On     string `json:"on"`     // host or guest
	Path   string `json:"path"`
	To     string `json:"to,omitempty"` // the name of what was put aside
}

type syncedPath struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

func (a *app) runSync(ctx context.Context, names []string, o syncOptions) error {
	if o.watch && o.dryRun {
		return &usageError{errors.New("--watch goes on changing what is to be changed, --dry-run changes nothing: give one of them")}
	}
	p, _, machines, err := a.selected(names)
	if err != nil {
		return err
	}
	work, err := a.syncings(ctx, p, machines, len(names) > 0, o)
	if err != nil {
		return err
	}
	if len(work) == 0 {
		if len(names) > 0 {
			a.ui().Notice("nothing to mirror: no share of %s is of type sftp", strings.Join(names, ", "))
		} else {
			a.ui().Notice("nothing to mirror: no machine that runs has a share of type sftp")
		}
		if o.watch || !a.json() {
			return nil
		}
	}
	results := make([]synced, len(work))
	errs := make([]error, len(work))
	var all errgroup.Group
	for i, s := range work {
		all.Go(func() error {
			switch {
			case o.watch:
				errs[i] = a.watchShare(ctx, s)
			default:
				results[i], errs[i] = a.syncShare(ctx, s)
			}
			return nil // one machine's failure stops no other
		})
	}
	_ = all.Wait() // see errs
	err = errors.Join(errs...)
	if o.watch {
		return err
	}
	return errors.Join(a.showSynced(results, o), err)
}

// syncings are the shares to mirror. Machines that are named must run.
func (a *app) syncings(ctx context.Context, p *project.Project, machines []*machinefile.Machine, named bool, o syncOptions) ([]syncing, error) {
	var work []syncing
	for _, m := range machines {
		var shares []*machinefile.Share
		for i := range m.Shares {
			if m.Shares[i].Type == machinefile.SFTP {
				shares = append(shares, &m.Shares[i])
			}
		}
		if len(shares) == 0 {
			continue
		}
		one, err := a.oneMachine([]string{m.Name})
		if err == nil {
			err = one.running(ctx)
		}
		if _, down := errors.AsType[*lifecycle.StateError](err); down && !named {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, share := range shares {
			if share.Create && !o.dryRun {
				if err := os.MkdirAll(share.Host, 0o755); err != nil {
					return nil, err
				}
			}
			work = append(work, syncing{machine: one, share: share, config: mirror.Config{
				Host: share.Host, Guest: share.Guest, Both: share.Direction == machinefile.Both,
				Ignore: share.Ignore, Base: p.MirrorFile(m.Name, share.Name), DryRun: o.dryRun,
			}})
		}
	}
	return work, nil
}

// step names the share in progress and errors.
func (s syncing) step() string { return "share " + s.share.Name }

func (a *app) report(s syncing, ev lifecycle.Event) {
	ev.Time, ev.Machine, ev.Step = time.Now(), s.machine.name, s.step()
	a.ui().Reporter().Report(ev)
}

// syncShare mirrors once. With -o json one object tells of it, at the end.
func (a *app) syncShare(ctx context.Context, s syncing) (synced, error) {
	began := time.Now()
	out := synced{Machine: s.machine.name, Share: s.share.Name, Changes: []syncedChange{}, Skipped: []syncedPath{}}
	if !a.json() {
		a.report(s, lifecycle.Event{Kind: lifecycle.StepStarted})
		s.config.Progress = a.syncProgress(s)
	}
	result, err := a.syncOnce(ctx, s)
	out.Seconds = time.Since(began).Seconds()
	if result != nil {
		out.Files, out.Bytes = result.Files, result.Bytes
		for _, c := range result.Changes {
			out.Changes = append(out.Changes, syncedChange{c.Action, c.On, c.Path, c.To})
		}
		for _, p := range result.Skipped {
			out.Skipped = append(out.Skipped, syncedPath{p.Path, p.Err.Error()})
		}
	}
	if err != nil {
		err = syncError(s, err)
		out.Error, out.Hint = err.Error(), hint.Of(err)
	}
	if a.json() {
		return out, err
	}
	for _, p := range out.Skipped {
		a.ui().Warn("%s: %s: %s", s.step(), p.Path, p.Reason)
	}
	if err != nil {
		a.report(s, lifecycle.Event{Kind: lifecycle.MachineFailed, Seconds: out.Seconds, Error: out.Error, Hint: out.Hint})
		return out, err
	}
	a.report(s, lifecycle.Event{Kind: lifecycle.StepDone, Seconds: out.Seconds, Message: syncText(result, s.config.DryRun)})
	a.report(s, lifecycle.Event{Kind: lifecycle.MachineDone, Seconds: out.Seconds, Message: s.share.Guest})
	return out, nil
}

// progressInterval is how often the display is told how far a share is.
const progressInterval = 100 * time.Millisecond

func (a *app) syncProgress(s syncing) func(mirror.Progress) {
	var last time.Time
	return func(p mirror.Progress) {
		if now := time.Now(); now.Sub(last) > progressInterval {
			last = now
			a.report(s, lifecycle.Event{Kind: lifecycle.Progress, Done: p.Bytes, Total: p.TotalBytes,
				Message: fmt.Sprintf("%d of %s", p.Files, count(p.TotalFiles, "file"))})
		}
	}
}

func (a *app) syncOnce(ctx context.Context, s syncing) (*mirror.Result, error) {
	p := s.machine.project
	if s.kept() && a.agentAnswers(ctx, p) {
		result, err := a.agent(p, a.providers(p)).Mirror(ctx, s.machine.name, s.share.Name)
		if !errors.Is(err, agent.ErrNotMirrored) {
			return result, err
		}
		a.logger().Debug("the agent does not mirror the share", "error", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	d := a.dialing(ctx, s.machine)
	defer d.end()
	defer cancel()
	result, err := mirror.Sync(ctx, d, s.config)
	if err != nil && d.failed() {
		err = d.err // as it is, which is no connection that was lost
	}
	return result, err
}

// kept reports whether the agent mirrors the share in the same way: it is
// asked to, then, since its connection stands.
func (s syncing) kept() bool {
	return !s.config.DryRun && slices.ContainsFunc(s.machine.state.Mounted, func(told project.ShareSpec) bool {
		c := agent.MirrorConfig(s.machine.project, s.machine.name, told)
		return told.Mirrored() && told.Name == s.share.Name && c.Host == s.config.Host && c.Guest == s.config.Guest &&
			c.Both == s.config.Both && slices.Equal(c.Ignore, s.config.Ignore)
	})
}

// dialing is a connection that is being made: what this computer has is read
// meanwhile.
type dialing struct {
	made   chan struct{} // closed when it stands, or cannot be made
	client *sshclient.Client
	err    error
}

func (a *app) dialing(ctx context.Context, m *one) *dialing {
	d := &dialing{made: make(chan struct{})}
	go func() {
		defer close(d.made)
		d.client, d.err = a.dial(ctx, m)
	}()
	return d
}

func (d *dialing) Exec(ctx context.Context, command string, s sshclient.Streams) (int, error) {
	if <-d.made; d.err != nil {
		return 0, d.err
	}
	return d.client.Exec(ctx, command, s)
}

func (d *dialing) SFTP(ctx context.Context, sudo bool, options ...sftp.ClientOption) (*sftp.Client, error) {
	if <-d.made; d.err != nil {
		return nil, d.err
	}
	return d.client.SFTP(ctx, sudo, options...)
}

// failed reports whether there is no connection, and will be none.
func (d *dialing) failed() bool {
	select {
	case <-d.made:
		return d.err != nil
	default:
		return false
	}
}

// end closes it: what was done is known by then.
func (d *dialing) end() {
	if <-d.made; d.err == nil {
		_ = d.client.Close()
	}
}

// syncText says what a run did.
func syncText(r *mirror.Result, dryRun bool) string {
	if len(r.Changes) == 0 {
		return "nothing to do"
	}
	text := count(len(r.Changes), "change")
	if dryRun {
		return text + " to make"
	}
	if r.Files > 0 {
		text += ", " + count(r.Files, "file") + ", " + units.HumanSizeWithPrecision(float64(r.Bytes), 3)
	}
	return text
}

func syncError(s syncing, err error) error {
	err = fmt.Errorf("%s: %s: %w", s.machine.name, s.step(), err)
	switch {
	case errors.Is(err, mirror.ErrBusy):
		return hint.Wrap(err, "another hostctl sync, or the project's agent, is at it: what it does is the same")
	case errors.Is(err, sshclient.ErrLost):
		return hint.Wrap(err, "run it again: it goes on where it was")
	}
	return err
}

// showSynced prints what was done: with -o json all of it, as text what a dry
// run would do.
func (a *app) showSynced(results []synced, o syncOptions) error {
	if a.json() {
		return a.ui().JSON(results)
	}
	if !o.dryRun {
		return nil
	}
	rows := [][]string{}
	for _, r := range results {
		for _, c := range r.Changes {
			path := c.Path
			if c.To != "" {
				path += " -> " + c.To
			}
			rows = append(rows, []string{r.Machine, r.Share, c.Action, c.On, path})
		}
	}
	return a.ui().Table([]ui.Column{{Name: "MACHINE"}, {Name: "SHARE"}, {Name: "ACTION"}, {Name: "ON"}, {Name: "PATH"}}, rows)
}

// reconnectInterval is how soon a guest is tried again that does not answer.
const reconnectInterval = 2 * time.Second

// watchShare mirrors until ctx ends. A guest that is away is waited for.
func (a *app) watchShare(ctx context.Context, s syncing) error {
	var told sync.Once
	for {
		var client *sshclient.Client
		err := wait.Until(ctx, reconnectInterval, func(ctx context.Context) error {
			var err error
			client, err = a.dial(ctx, s.machine)
			if err != nil {
				told.Do(func() { a.ui().Warn("%v", syncError(s, err)) })
				if _, down := errors.AsType[*lifecycle.StateError](err); down {
					return wait.Permanent(err)
				}
			}
			return err
		})
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		err = mirror.Watch(ctx, client, s.config, mirror.Watching{
			Done:   func(r *mirror.Result, err error) { a.watched(s, r, err) },
			Notice: func(err error) { a.watchNotice(s, err) },
		})
		_ = client.Close() // what was done is known
		if ctx.Err() != nil {
			return nil // how watching ends
		}
		if !errors.Is(err, sshclient.ErrLost) {
			return syncError(s, err)
		}
		a.ui().Warn("%v", syncError(s, err))
	}
}

func (a *app) watched(s syncing, r *mirror.Result, err error) {
	if err != nil && !errors.Is(err, mirror.ErrBusy) {
		a.ui().Warn("%v", syncError(s, err))
	}
	if r != nil && len(r.Changes) > 0 {
		a.report(s, lifecycle.Event{Kind: lifecycle.Notice, Message: syncText(r, false)})
	}
}

func (a *app) watchNotice(s syncing, err error) {
	if err != nil {
		a.ui().Warn("%s: %s: %v", s.machine.name, s.step(), err)
	}
}
