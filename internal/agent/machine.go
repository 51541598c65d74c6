package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// lookTimeout bounds asking a provider about a machine.
const lookTimeout = 10 * time.Second

// publishes reports whether the ports of the machine's containers are to be
// forwarded.
func publishes(ms project.MachineState) bool {
	return ms.Spec.PublishPorts && ms.DockerHost() != ""
}

// carries reports whether the machine's own forwards are the agent's work.
func carries(p provider.Provider, ms project.MachineState) bool {
	_, forwards := provider.As[provider.Forwarder](p)
	_, reached := provider.As[provider.Dialer](p)
	return !forwards && reached && len(ms.Forwards) > 0
}

// switched reports whether cards of the machine may wait for the agent's
// switch.
func switched(p provider.Provider, ms project.MachineState) (provider.Switched, bool) {
	s, ok := provider.As[provider.Switched](p)
	return s, ok && slices.ContainsFunc(ms.NICs, func(n project.NIC) bool { return n.CIDR.IsValid() })
}

// occupies reports whether the machine, when it runs, needs an agent, whatever
// networks it is on.
func occupies(p provider.Provider, ms project.MachineState) bool {
	return publishes(ms) || carries(p, ms) || serves(p, ms) || len(mirrored(ms)) > 0
}

// mayNeed reports whether the machine, when it runs, may need an agent.
func mayNeed(p provider.Provider, ms project.MachineState) bool {
	_, cards := switched(p, ms)
	return cards || occupies(p, ms)
}

// needs reports whether the running machine needs an agent.
func needs(ctx context.Context, p provider.Provider, name string, ms project.MachineState) (bool, error) {
	if occupies(p, ms) {
		return true, nil
	}
	s, ok := switched(p, ms)
	if !ok {
		return false, nil
	}
	// Its networks may be the host's own.
	ports, err := s.SwitchPorts(ctx, name)
	return len(ports) > 0, err
}

// worker does the agent's work for one machine.
type worker struct {
	name  string
	agent *agent
	log   *slog.Logger
	pokes chan struct{} // capacity 1: something may have changed
	asks  chan ask

	// Only the goroutine of run uses these.
	domain    string // the id of the domain that the rest is about
	carrier   carrier
	publisher *publishing
	plugs     *plugs
	telling   *telling
	mirroring *mirroring
	clock     *clock
	reach     netip.Addr // on which its guest reaches this host, once that was asked for

	mu       sync.Mutex
	busy     bool // the machine runs and needs the agent
	forwards []Forward
	err      error
	shown    *publisher // of publisher, for status
	copies   []*copying // of mirroring, likewise
	untold   error      // why the guest is not told of file changes
}

// ask wants to know what became of the state that was loaded before it.
type ask struct{ answer chan error }

// publishing is a publisher that runs.
type publishing struct {
	*publisher
	host  string
	state []network.Forward // of the machine, when it was told last
	stop  func()
}

func newWorker(a *agent, name string) *worker {
	return &worker{
		name: name, agent: a, log: a.log.With("machine", name),
		pokes: make(chan struct{}, 1), asks: make(chan ask),
		plugs: &plugs{lans: a.lans, joined: map[provider.SwitchPort]plug{}},
	}
}

// run follows the machine until ctx ends, and then releases all.
func (w *worker) run(ctx context.Context) {
	defer w.down()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.pokes:
			if err := w.look(ctx); ctx.Err() == nil {
				w.keep(err)
			}
		case q := <-w.asks:
			err := w.look(ctx)
			w.keep(err)
			q.answer <- err
			if w.publisher != nil {
				w.publisher.doubt() // whoever asks may have changed forwards
			}
		}
	}
}

// keep notes why the machine is not followed, for status.
func (w *worker) keep(err error) {
	if _, port := errors.AsType[*provider.PortError](err); port {
		err = nil // it stands beside its forward
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && (w.err == nil || err.Error() != w.err.Error()) {
		w.log.Warn("cannot follow the machine", "error", err)
	}
	w.err = err
}

// look makes what is in force what the state and the provider say.
func (w *worker) look(ctx context.Context) error {
	ms, ok := w.agent.machine(w.name)
	if !ok {
		w.down()
		return nil
	}
	p, err := w.agent.cfg.Provider(ms.Provider)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	status, err := p.Status(asking, w.name)
	if errors.Is(err, provider.ErrNotFound) || err == nil && status.State != provider.Running || w.domain != "" && w.domain != ms.DomainID {
		w.down()
	}
	if err != nil {
		if errors.Is(err, provider.ErrNotFound) {
			return nil
		}
		return err // what is in force stays: the guest may well run
	}
	if status.State != provider.Running {
		return nil
	}
	return w.up(ctx, p, ms)
}

// up puts in force what the running machine needs.
func (w *worker) up(ctx context.Context, p provider.Provider, ms project.MachineState) error {
	if w.domain == "" {
		w.log.Info("runs")
		w.domain = ms.DomainID
	}
	if w.carrier == nil {
		forwarder, forwards := provider.As[provider.Forwarder](p)
		guest, reached := provider.As[provider.Dialer](p)
		switch {
		case forwards:
			w.carrier = &hypervisor{forwarder, w.name}
		case reached:
			w.carrier = &proxies{guest: guest, name: w.name, log: w.log, listeners: map[route]listening{}}
		case publishes(ms):
			return fmt.Errorf("provider %q has no way to its guests' ports", ms.Provider)
		}
	}
	// What containers publish makes room for what the machine file says.
	if w.publisher != nil && !slices.Equal(w.publisher.state, ms.Forwards) {
		if err := w.publisher.yield(ctx); err != nil {
			return err
		}
		w.publisher.state = ms.Forwards
	}
	joined := w.join(ctx, p, ms)
	err := w.carry(ctx, p, ms)
	served := w.serve(ctx, p, ms)
	w.publish(ctx, ms)
	w.tell(ctx, ms)
	w.mirror(ctx, ms)
	w.keepTime(ctx, ms)
	return cmp.Or(err, joined, served)
}

// serve has the guest's shares served.
func (w *worker) serve(ctx context.Context, p provider.Provider, ms project.MachineState) error {
	if !ms.AsksServer() {
		return w.agent.shares.set(w.name, want{})
	}
	if !w.reach.IsValid() {
		host, ok := provider.As[provider.HostAddresser](p)
		if !ok {
			return fmt.Errorf("guests of provider %q do not reach this host", ms.Provider)
		}
		at, err := host.HostAddress(ctx, w.name)
		if err != nil {
			return err
		}
		w.reach = at.Listen
	}
	return w.agent.shares.set(w.name, want{listen: w.reach, shares: ms.Served(), stay: ms.Spec.Shares, owner: ms.Image.Guest.UserID()})
}

// join puts the machine's cards on the switch. A guest that boots needs its
// networks first.
func (w *worker) join(ctx context.Context, p provider.Provider, ms project.MachineState) error {
	var ports []provider.SwitchPort
	var err error
	if s, ok := switched(p, ms); ok {
		if ports, err = s.SwitchPorts(ctx, w.name); err != nil && !gone(err) {
			return err // those that are joined stay
		}
	}
	w.mu.Lock()
	w.busy = occupies(p, ms) || len(ports) > 0
	w.mu.Unlock()
	return w.plugs.set(ctx, ports)
}

// carry puts the machine's own forwards in force, where that is the agent's
// work. It returns the first that cannot be.
func (w *worker) carry(ctx context.Context, p provider.Provider, ms project.MachineState) error {
	if !carries(p, ms) {
		w.show(nil)
		return nil
	}
	var first error
	report := make([]Forward, len(ms.Forwards))
	routes := map[route]bool{}
	for _, f := range ms.Forwards {
		routes[routeOf(f)] = true
	}
	w.mu.Lock()
	before := w.forwards
	w.mu.Unlock()
	for _, f := range before {
		if !routes[routeOf(f.Forward)] {
			if err := w.carrier.remove(ctx, f.Forward); err != nil {
				w.log.Warn("cannot close a forward", "forward", f.String(), "error", err)
			}
		}
	}
	for i, f := range ms.Forwards {
		report[i].Forward = f
		if err := w.carrier.add(ctx, f); err != nil {
			report[i].Error = err.Error()
			if first == nil {
				first = err
			}
		}
	}
	w.show(report)
	return first
}

func (w *worker) show(forwards []Forward) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forwards = forwards
}

// publish starts or ends following the machine's Docker engine.
func (w *worker) publish(ctx context.Context, ms project.MachineState) {
	host := ms.DockerHost()
	if w.publisher != nil && (!publishes(ms) || w.publisher.host != host) {
		w.publisher.stop()
		w.publisher = nil
	}
	if w.publisher == nil && publishes(ms) {
		p := newPublisher(w.name, host, w.carrier, w.login, w.agent.cfg.Project.Load, w.log)
		w.publisher = &publishing{publisher: p, host: host, state: ms.Forwards, stop: background(ctx, p.run)}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shown = nil
	if w.publisher != nil {
		w.shown = w.publisher.publisher
	}
}

// login is how the guest is logged in to, by the state as it is now.
func (w *worker) login() (sshclient.Target, error) {
	ms, ok := w.agent.machine(w.name)
	if !ok {
		return sshclient.Target{}, provider.ErrNotFound
	}
	return w.agent.cfg.Target(w.name, ms)
}

// down releases what the machine had.
func (w *worker) down() {
	if w.telling != nil {
		w.stopTelling()
	}
	if w.mirroring != nil {
		w.mirroring.end()
		w.mirroring = nil
	}
	if w.clock != nil {
		w.stopClock()
	}
	if w.publisher != nil {
		w.publisher.stop()
		w.publisher = nil
	}
	if w.carrier != nil {
		if err := w.carrier.close(); err != nil {
			w.log.Warn("cannot close a forward", "error", err)
		}
		w.carrier = nil
	}
	w.plugs.close()
	if err := w.agent.shares.set(w.name, want{}); err != nil {
		w.log.Warn("the server of shares does not follow", "error", err)
	}
	w.reach = netip.Addr{}
	if w.domain != "" {
		w.log.Info("released")
		w.domain = ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy, w.forwards, w.shown, w.copies = false, nil, nil, nil
}

// occupied reports whether the machine runs and needs the agent.
func (w *worker) occupied() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy
}

// status is what the agent does for the machine; false when that is nothing.
func (w *worker) status() (MachineStatus, bool) {
	w.mu.Lock()
	busy, err, shown, copies, untold := w.busy, w.err, w.shown, w.copies, w.untold
	s := MachineStatus{Forwards: append([]Forward{}, w.forwards...), Published: []Published{}, Networks: w.plugs.networks()}
	w.mu.Unlock()
	s.Shares = w.agent.shares.status(w.name, untold)
	for _, c := range copies {
		s.Mirrors = append(s.Mirrors, c.status())
	}
	if shown != nil {
		published, lost := shown.status()
		s.Published = append(s.Published, published...)
		err = errors.Join(err, lost)
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s, busy
}
