package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/go-units"
	"github.com/pkg/sftp"
	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/folder"
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
	conn    *dialing // of the machine
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
	Earlier *syncedEarlier `json:"earlier,omitempty"`
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

// syncedEarlier is what the agent did last, before it was asked: a file that
// was saved a moment ago is in the guest already.
type syncedEarlier struct {
	Changes int       `json:"changes"`
	Files   int       `json:"files"`
	Bytes   int64     `json:"bytes"`
	At      time.Time `json:"at"`
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
	if o.watch {
		for _, s := range work {
			if err := a.answers(ctx, s); err != nil {
				return syncError(s, err)
			}
		}
		a.ui().Notice("watching %s: Ctrl-C ends", watchedText(work))
		if status, err := a.agentStatus(ctx, p, agentPatience); err == nil && agentMirrors(status, work) {
			a.ui().Notice("the agent mirrors that without being told to: what it does first does not show here, but in hostctl share status")
		}
		return a.watchShares(ctx, work)
	}
	results, err := a.syncShares(ctx, work)
	return errors.Join(a.showSynced(results, o), err)
}

// syncShares mirrors all once. One's failure stops no other.
func (a *app) syncShares(ctx context.Context, work []syncing) ([]synced, error) {
	results := make([]synced, len(work))
	errs := make([]error, len(work))
	var all sync.WaitGroup
	for i, s := range work {
		all.Go(func() { results[i], errs[i] = a.syncShare(ctx, s) })
	}
	all.Wait()
	for _, s := range work {
		s.conn.end()
	}
	return results, errors.Join(errs...)
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
		conn := dialingTo(one)
		for _, share := range shares {
			if share.Create && !o.dryRun {
				if err := a.makeFolder(ctx, one, share); err != nil {
					return nil, err
				}
			}
			work = append(work, syncing{machine: one, conn: conn, share: share, config: mirror.Config{
				Host: share.Host, Guest: share.Guest, Both: share.Direction == machinefile.Both,
				Ignore: share.Ignore, Base: p.MirrorFile(m.Name, share.Name), DryRun: o.dryRun,
				Machine: m.Name,
			}})
		}
	}
	return work, nil
}

// makeFolder makes the folder of a share that was never mirrored. That it was, and is
// not there now, is for whoever mirrors it to tell.
func (a *app) makeFolder(ctx context.Context, m *one, s *machinefile.Share) error {
	if err := a.folders.At(ctx, s.Host); !errors.Is(err, fs.ErrNotExist) || lifecycle.MirroredBefore(m.project, m.name, m.state, s) {
		return nil
	}
	if err := a.folders.Make(ctx, s.Host); err != nil {
		return fmt.Errorf("%s: share %q: %w", m.name, s.Name, err)
	}
	a.ui().Notice("%s: share %s: made %s", m.name, s.Name, s.Host)
	return nil
}

// answers returns an error when the share's folder hangs. Any other fault of it is for
// whoever mirrors it to tell.
func (a *app) answers(ctx context.Context, s syncing) error {
	if err := a.folders.At(ctx, s.config.Host); errors.Is(err, folder.ErrSilent) {
		return err
	}
	return nil
}

// step names the share in errors.
func (s syncing) step() string { return "share " + s.share.Name }

// line names the share where each has a line of its own: a machine can have
// many.
func (s syncing) line() string { return s.machine.name + ": " + s.step() }

// show tells the display of the share, which -o json has none of.
func (a *app) show(s syncing, ev lifecycle.Event) {
	if !a.json() {
		ev.Time, ev.Step = time.Now(), s.line()
		a.ui().Reporter().Report(ev)
	}
}

// syncShare mirrors once. With -o json one object tells of it, at the end.
func (a *app) syncShare(ctx context.Context, s syncing) (synced, error) {
	began := time.Now()
	out := synced{Machine: s.machine.name, Share: s.share.Name, Changes: []syncedChange{}, Skipped: []syncedPath{}}
	a.show(s, lifecycle.Event{Kind: lifecycle.StepStarted})
	s.config.Progress = a.syncProgress(s)
	result, earlier, err := a.syncOnce(ctx, s)
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
	if earlier != nil {
		out.Earlier = &syncedEarlier{earlier.Changes, earlier.Files, earlier.Bytes, earlier.At}
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
	for _, c := range out.Changes {
		if c.To != "" && !s.config.DryRun {
			a.ui().Warn("%s: %s was changed on both sides: what was on the %s is %s now", s.step(), c.Path, c.On, c.To)
		}
	}
	if err != nil {
		a.show(s, lifecycle.Event{Kind: lifecycle.MachineFailed, Seconds: out.Seconds, Error: out.Error, Hint: out.Hint})
		return out, err
	}
	a.show(s, lifecycle.Event{Kind: lifecycle.StepDone, Seconds: out.Seconds, Message: out.text(s.config.DryRun, time.Now())})
	return out, nil
}

// progressInterval is how often the display is told how far a share is.
const progressInterval = 100 * time.Millisecond

func (a *app) syncProgress(s syncing) func(mirror.Progress) {
	var last time.Time
	return func(p mirror.Progress) {
		if now := time.Now(); now.Sub(last) > progressInterval {
			last = now
			a.show(s, lifecycle.Event{Kind: lifecycle.Progress, Done: p.Bytes, Total: p.TotalBytes,
				Message: fmt.Sprintf("%d of %s", p.Files, count(p.TotalFiles, "file"))})
		}
	}
}

// syncOnce has the agent do it where it mirrors the share. Then it also tells
// what the agent did last before that.
func (a *app) syncOnce(ctx context.Context, s syncing) (*mirror.Result, *agent.Earlier, error) {
	if err := a.answers(ctx, s); err != nil {
		return nil, nil, err
	}
	p := s.machine.project
	if s.kept() && a.agentAnswers(ctx, p) {
		result, earlier, err := a.syncByAgent(ctx, s)
		if !errors.Is(err, agent.ErrNotMirrored) {
			return result, earlier, err
		}
		a.logger().Debug("the agent does not mirror the share", "error", err)
	}
	s.conn.begin(ctx, a)
	result, err := mirror.Sync(ctx, s.conn, s.config)
	if err != nil && s.conn.failed() {
		err = s.conn.err // as it is, which is no connection that was lost
	}
	return result, nil, err
}

// silence is how long the agent may tell nothing of a share before the guest is
// looked at.
const silence = 3 * time.Second

// syncByAgent has the agent mirror the share. The agent gives a guest that hangs more
// time than somebody has who waits for it.
func (a *app) syncByAgent(ctx context.Context, s syncing) (*mirror.Result, *agent.Earlier, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var progressed atomic.Bool
	look := time.AfterFunc(silence, func() {
		if progressed.Load() {
			return
		}
		target, err := lifecycle.Target(s.machine.project, s.machine.name, s.machine.state)
		if err == nil {
			err = sshclient.Answers(ctx, target)
		}
		if err != nil && !progressed.Load() {
			cancel(notLoggedIn(ctx, s.machine.name, err)) // nothing, where it ended meanwhile
		}
	})
	defer look.Stop()
	p := s.machine.project
	return a.agent(p, a.providers(p)).Mirror(ctx, s.machine.name, s.share.Name, func(far mirror.Progress) {
		progressed.Store(true)
		s.config.Progress(far)
	})
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

// dialing is the connection to a machine, which its shares have in common. It is
// made when one of them needs it: what this computer has is read meanwhile.
type dialing struct {
	machine *one
	once    sync.Once
	cancel  func()        // of the attempt
	made    chan struct{} // closed when it stands, or cannot be made
	client  *sshclient.Sessions
	err     error
}

func dialingTo(m *one) *dialing {
	return &dialing{machine: m, cancel: func() {}, made: make(chan struct{})}
}

func (d *dialing) begin(ctx context.Context, a *app) {
	d.once.Do(func() {
		ctx, d.cancel = context.WithCancel(ctx)
		go func() {
			defer close(d.made)
			var client *sshclient.Client
			if client, d.err = a.dial(ctx, d.machine); d.err == nil {
				d.client = sshclient.NewSessions(client)
			}
		}()
	})
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

// end closes it: what was done is known by then. It can be repeated.
func (d *dialing) end() {
	d.once.Do(func() {
		d.err = sshclient.ErrLost // nobody needed it
		close(d.made)
	})
	d.cancel()
	if <-d.made; d.err == nil {
		_ = d.client.Close()
	}
}

// text says what a run did, or would do.
func (s synced) text(dryRun bool, now time.Time) string {
	if dryRun && len(s.Changes) > 0 {
		return count(len(s.Changes), "change") + " to make"
	}
	put, removed, chmod, aside := 0, 0, 0, 0
	for _, c := range s.Changes {
		switch c.Action {
		case "put":
			put++
		case "remove":
			removed++
		case "chmod":
			chmod++
		case "aside":
			aside++
		}
	}
	var parts []string
	if s.Files > 0 {
		parts = append(parts, count(s.Files, "file")+", "+units.HumanSizeWithPrecision(float64(s.Bytes), 3))
		put -= min(s.Files, put)
	}
	for _, some := range []struct {
		n     int
		words string
	}{
		{put, "of directories and links"}, {removed, "removed"}, {chmod, "with other permissions"}, {aside, "in conflict, both kept"},
	} {
		if some.n > 0 {
			parts = append(parts, fmt.Sprint(some.n, " ", some.words))
		}
	}
	text := strings.Join(parts, ", ")
	switch e := s.Earlier; {
	case text != "":
		return text
	case e != nil:
		text = count(e.Changes, "change")
		if e.Files > 0 {
			text = count(e.Files, "file") + ", " + units.HumanSizeWithPrecision(float64(e.Bytes), 3)
		}
		return fmt.Sprintf("nothing to do: %s the agent mirrored %s", ago(now.Sub(e.At)), text)
	}
	return "nothing to do"
}

// ago says how long ago something was: "a moment ago", "5 seconds ago", "about an
// hour ago".
func ago(d time.Duration) string {
	if d < 2*time.Second {
		return "a moment ago"
	}
	return strings.ToLower(units.HumanDuration(d)) + " ago"
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

// watchShares mirrors until ctx ends, over one connection to each machine.
func (a *app) watchShares(ctx context.Context, work []syncing) error {
	of := map[*one][]syncing{}
	for _, s := range work {
		of[s.machine] = append(of[s.machine], s)
	}
	left := &leftovers{n: len(work), warn: func(err error) { a.ui().Warn("%v", err) }}
	errs := make(chan error, len(of))
	for m, shares := range of {
		go func() { errs <- a.watchMachine(ctx, m, shares, left) }() // one machine's failure stops no other
	}
	var err error
	for range of {
		err = errors.Join(err, <-errs)
	}
	return err
}

// leftovers are the shares that are still watched. Why others are not is said at
// once: the end of it all, which tells, too, can be days away.
type leftovers struct {
	mu   sync.Mutex
	n    int
	warn func(error)
}

// giveUp tells of n shares that are no longer watched, unless they were the last.
func (l *leftovers) giveUp(n int, err error) {
	l.mu.Lock()
	l.n -= n
	goOn := l.n > 0
	l.mu.Unlock()
	if goOn {
		l.warn(err)
	}
}

// watchMachine mirrors a machine's shares until ctx ends. A guest that is away
// is waited for.
func (a *app) watchMachine(ctx context.Context, m *one, shares []syncing, left *leftovers) error {
	var told sync.Once
	var failed []error // of shares that are given up
	for len(shares) > 0 {
		var client *sshclient.Client
		err := wait.Until(ctx, reconnectInterval, func(ctx context.Context) error {
			var err error
			client, err = a.dial(ctx, m)
			if _, down := errors.AsType[*lifecycle.StateError](err); down {
				return wait.Permanent(err)
			}
			if err != nil {
				told.Do(func() { a.ui().Warn("%v", fmt.Errorf("%s: %w", m.name, err)) })
			}
			return err
		})
		if err != nil && ctx.Err() == nil {
			failed = append(failed, err)
			left.giveUp(len(shares), err)
		}
		if err != nil {
			break
		}
		errs := a.watchConnected(ctx, sshclient.NewSessions(client), shares, left)
		var cut []syncing
		for i, err := range errs {
			switch {
			case errors.Is(err, sshclient.ErrLost):
				cut = append(cut, shares[i])
			case err != nil:
				failed = append(failed, err)
			}
		}
		if ctx.Err() != nil {
			break
		}
		if len(cut) > 0 {
			a.ui().Warn("%s: %v: it is tried again", m.name, sshclient.ErrLost)
		}
		shares = cut
	}
	return errors.Join(failed...)
}

// watchConnected mirrors for as long as the connection stands, and returns what
// became of each share: nothing of those that ended with ctx.
func (a *app) watchConnected(ctx context.Context, conn *sshclient.Sessions, shares []syncing, left *leftovers) []error {
	defer func() { _ = conn.Close() }() // what was done is known
	errs := make([]error, len(shares))
	var all sync.WaitGroup
	for i, s := range shares {
		all.Go(func() {
			err := mirror.Watch(ctx, conn, s.config, mirror.Watching{
				Done:   func(r *mirror.Result, err error) { a.watched(s, r, err) },
				Notice: func(err error) { a.watchNotice(s, err) },
			})
			switch {
			case err == nil || ctx.Err() != nil:
				return
			case errors.Is(err, sshclient.ErrLost):
				_ = conn.Close() // it may be one session: the others have to end, too
			default:
				err = syncError(s, err)
				left.giveUp(1, err)
			}
			errs[i] = err
		})
	}
	all.Wait()
	return errs
}

// agentMirrors reports whether the agent mirrors any of the shares.
func agentMirrors(s agent.Status, work []syncing) bool {
	return slices.ContainsFunc(work, func(w syncing) bool {
		return slices.ContainsFunc(s.Machines[w.machine.name].Mirrors, func(m agent.Mirror) bool { return m.Name == w.share.Name })
	})
}

// watchedText names the shares, each once, with where their changes go and with the
// machines that have them: "share code (both ways: core-01, core-02)".
func watchedText(work []syncing) string {
	var shares []string
	machines := map[string][]string{}
	for _, s := range work {
		way := "to the guest"
		if s.config.Both {
			way = "both ways"
		}
		share := s.step() + " (" + way
		if machines[share] == nil {
			shares = append(shares, share)
		}
		machines[share] = append(machines[share], s.machine.name)
	}
	for i, share := range shares {
		shares[i] = share + ": " + strings.Join(machines[share], ", ") + ")"
	}
	return strings.Join(shares, ", ")
}

// changedText says what a run did, and which way: "share code to the guest: 1 file, 2B".
func (s syncing) changedText(out synced, now time.Time) string {
	way := "both ways"
	switch host := func(c syncedChange) bool { return c.On == "host" }; {
	case !slices.ContainsFunc(out.Changes, host):
		way = "to the guest"
	case !slices.ContainsFunc(out.Changes, func(c syncedChange) bool { return !host(c) }):
		way = "from the guest"
	}
	return s.step() + " " + way + ": " + out.text(false, now)
}

func (a *app) watched(s syncing, r *mirror.Result, err error) {
	if err != nil && !errors.Is(err, mirror.ErrBusy) {
		a.ui().Warn("%v", syncError(s, err))
	}
	if r != nil && len(r.Changes) > 0 {
		out := synced{Files: r.Files, Bytes: r.Bytes}
		for _, c := range r.Changes {
			out.Changes = append(out.Changes, syncedChange{c.Action, c.On, c.Path, c.To})
		}
		a.ui().Reporter().Report(lifecycle.Event{Time: time.Now(), Kind: lifecycle.Notice, Machine: s.machine.name, Step: s.step(), Message: s.changedText(out, time.Now())})
	}
}

func (a *app) watchNotice(s syncing, err error) {
	if err != nil {
		a.ui().Warn("%s: %s: %v", s.machine.name, s.step(), err)
	}
}
