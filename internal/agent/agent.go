package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/network/lan"
	"github.com/hostctl/hostctl/provider"
)

// Config is what an agent is given.
type Config struct {
	Project  *project.Project
	Provider func(name string) (provider.Provider, error)
	// Target is how to log in to a machine's guest.
	Target func(name string, ms project.MachineState) (sshclient.Target, error)
	// Version is hostctl's: an agent of another one is replaced.
	Version string
	// Log is the agent's log, opened for reading and appending. When it gets too
	// long it loses the older half.
	Log *os.File
	// Idle is how long the agent stays though nothing needs it; 0: 10 seconds.
	Idle time.Duration
}

const (
	defaultIdle = 10 * time.Second
	// lookInterval is how often the agent looks by itself: whether machines
	// run, whether the project is there.
	lookInterval = time.Second
	// watchedEvery is at which of these times it asks about machines whose
	// provider says by itself when they change.
	watchedEvery = 10
	// goodbyeTimeout bounds answering requests that are under way at the end.
	goodbyeTimeout = 2 * time.Second
)

var (
	errStopped   = errors.New("told to stop")
	errIdle      = errors.New("no machine needs it")
	errDestroyed = errors.New("the project is gone")
	errReplaced  = errors.New("the project's sockets are elsewhere now")
)

// agent is the process's work.
type agent struct {
	cfg     Config
	log     *slog.Logger
	hold    *hold
	lans    *lans
	shares  *shares
	stop    context.CancelCauseFunc
	done    context.Context            // ends when the agent is about to
	stopped chan struct{}              // closed when all is released
	begin   func(name string) *running // starts a worker that ends with the agent
	watch   func(p provider.Watcher, changed func(string)) (stopped <-chan struct{})

	mu      sync.Mutex
	state   *project.State
	workers map[string]*running
	watches map[string]<-chan struct{} // by provider; closed when it says nothing more
	looks   int
	asked   int       // commands that wait for an answer
	idle    time.Time // since when nothing needs the agent
	libvirt string    // where the state had the first libvirt machine, or ""
}

// running is a worker that runs.
type running struct {
	*worker
	end func() // waits for it
}

// Run is the agent: it returns nil when it was told to stop, when ctx ends,
// when nothing needs it any more, or when the project has another agent. It
// takes no part in the project's lock and changes nothing in the state.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.Idle == 0 {
		cfg.Idle = defaultIdle
	}
	files, err := cfg.Project.AgentFiles()
	if err != nil {
		return err
	}
	h, err := claim(ctx, files)
	if errors.Is(err, errOther) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.release()) }()
	l, err := h.listen(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	a := &agent{
		cfg: cfg, hold: h, stop: stop, done: ctx,
		log:     slog.New(slog.NewTextHandler(newLog(cfg.Log, maxLog), nil)),
		stopped: make(chan struct{}),
		state:   &project.State{}, workers: map[string]*running{}, idle: time.Now(),
		watches: map[string]<-chan struct{}{},
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	a.watch = func(p provider.Watcher, changed func(string)) <-chan struct{} {
		stopped := make(chan struct{})
		watching.Go(func() {
			defer close(stopped)
			a.log.Info("does not watch", "why", p.Watch(ctx, changed))
		})
		return stopped
	}
	a.lans = &lans{log: a.log, networks: map[provider.HostOnly]*lan.Network{}}
	defer a.lans.close()
	a.shares = newShares(cfg.Project, a.exports, a.log)
	defer a.shares.end()
	a.begin = func(name string) *running {
		w := newWorker(a, name)
		return &running{worker: w, end: background(ctx, w.run)}
	}
	a.log.Info("begins", "pid", os.Getpid(), "version", cfg.Version, "directory", cfg.Project.Dir())

	server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: goodbyeTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	a.supervise(ctx)
	a.shares.end()
	a.release()
	a.log.Info("ends", "why", context.Cause(ctx))
	close(a.stopped)

	goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	err = server.Shutdown(goodbye)
	if err != nil {
		err = server.Close()
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// supervise looks after the workers until ctx ends.
func (a *agent) supervise(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := a.look(); err != nil {
			a.stop(err)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// look follows the state, and says why the agent has to end.
func (a *agent) look() error {
	if a.hold.lost() {
		return errReplaced
	}
	if err := a.load(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.looks++
	for name, w := range a.workers {
		if !a.watched(a.state.Machines[name].Provider) || a.looks%watchedEvery == 0 {
			poke(w.pokes)
		}
		if w.occupied() {
			a.idle = time.Now()
		}
	}
	if a.asked == 0 && time.Since(a.idle) > a.cfg.Idle {
		return errIdle
	}
	return nil
}

// load reads the state and gives each machine that may need the agent a
// worker. It fails when the project is no longer this agent's.
func (a *agent) load() error {
	if !a.cfg.Project.Exists() {
		return errDestroyed
	}
	state, err := a.cfg.Project.Load()
	var copied *project.CopyError
	switch {
	case errors.As(err, &copied):
		return err
	case err != nil:
		a.log.Warn("cannot read the state", "error", err)
		return nil // the one before still holds
	case state.ID == "":
		return errDestroyed
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = state
	a.libvirt = cmp.Or(a.libvirt, state.LibvirtURI)
	for name, ms := range state.Machines {
		if _, ok := a.workers[name]; ok {
			continue
		}
		p, err := a.cfg.Provider(ms.Provider)
		if err != nil || !mayNeed(p, ms) {
			continue
		}
		a.workers[name] = a.begin(name)
		poke(a.workers[name].pokes)
		if watcher, ok := provider.As[provider.Watcher](p); ok && !a.watched(ms.Provider) {
			a.watches[ms.Provider] = a.watch(watcher, a.changed)
		}
	}
	return nil
}

// watched reports whether the provider says when its machines change. The
// caller holds the lock.
func (a *agent) watched(provider string) bool {
	stopped, ok := a.watches[provider]
	if !ok {
		return false
	}
	select {
	case <-stopped:
		return false
	default:
		return true
	}
}

// changed has the machine looked at, or all of them.
func (a *agent) changed(machine string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, w := range a.workers {
		if machine == "" || name == machine {
			poke(w.pokes)
		}
	}
}

// machine returns the machine as the state has it, if the agent has something
// to do for it.
func (a *agent) machine(name string) (project.MachineState, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ms, ok := a.state.Machines[name]
	if !ok {
		return ms, false
	}
	p, err := a.cfg.Provider(ms.Provider)
	return ms, err == nil && mayNeed(p, ms)
}

// sync follows the state as it is on disk now, and returns when it is in force
// for the machine, and what is wrong with that.
func (a *agent) sync(ctx context.Context, machine string) error {
	if err := a.load(); err != nil {
		a.stop(err)
		return err
	}
	a.mu.Lock()
	w := a.workers[machine]
	for name, other := range a.workers {
		if name != machine {
			poke(other.pokes)
		}
	}
	a.asked++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked--
		a.idle = time.Now()
	}()
	if w == nil {
		return nil
	}
	q := ask{make(chan error, 1)}
	select {
	case w.asks <- q:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-q.answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// exports names what the state has guests be served.
func (a *agent) exports() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for _, ms := range a.state.Machines {
		for _, share := range ms.Served() {
			names = append(names, share.Export(ms.Image.Guest.UserID()))
		}
	}
	return names
}

// release ends all workers, at once.
func (a *agent) release() {
	a.mu.Lock()
	workers := a.workers
	a.workers = map[string]*running{}
	a.mu.Unlock()
	var ending sync.WaitGroup
	for _, w := range workers {
		ending.Go(w.end)
	}
	ending.Wait()
}

// status is what the agent does now.
func (a *agent) status() statusAnswer {
	a.mu.Lock()
	s := statusAnswer{Dir: a.cfg.Project.Dir(), Libvirt: a.libvirt, Status: Status{
		PID: os.Getpid(), Version: a.cfg.Version, Machines: map[string]MachineStatus{},
	}}
	workers := maps.Clone(a.workers)
	a.mu.Unlock()
	a.shares.look()
	for name, w := range workers {
		if m, busy := w.status(); busy || m.Error != "" {
			s.Machines[name] = m
		}
	}
	return s
}
