package agent

import (
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

const (
	// pingInterval is how soon a guest that was reset without a word is
	// noticed: its connections end only when somebody uses them.
	pingInterval = time.Second
	// mendInterval is when what could not be forwarded is tried again.
	mendInterval = 2 * time.Second
	// firstSpare is where ports of the guest's address are taken from when a
	// redirect cannot have its own: above those the guest's own connections use
	// (net.ipv4.ip_local_port_range).
	firstSpare = 61000
	// maxPublished bounds what one machine takes of the host's ports. A forward
	// costs the hypervisor more the more there are.
	maxPublished = 1000
)

// publisher forwards what one machine's containers publish, as long as the
// machine runs.
type publisher struct {
	name     string
	docker   *docker
	carrier  carrier
	redirect *redirector
	log      *slog.Logger
	// state reads the project's state: whose ports others must leave alone.
	state func() (*project.State, error)
	pokes chan struct{} // capacity 1

	work    sync.Mutex // held while forwards are changed
	current map[binding]network.Forward
	lookAt  bool // compare with what the carrier has

	mu     sync.Mutex
	report []Published
	err    error // why the engine is not followed
}

func newPublisher(name, host string, c carrier, target func() (sshclient.Target, error), state func() (*project.State, error), log *slog.Logger) *publisher {
	p := &publisher{
		name: name, docker: newDocker(host), carrier: c, log: log, state: state,
		pokes: make(chan struct{}, 1), current: map[binding]network.Forward{},
	}
	p.redirect = newRedirector(target, log, func() { poke(p.pokes) })
	return p
}

// status returns what is forwarded, and why the engine is not followed.
func (p *publisher) status() ([]Published, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.report), p.err
}

// run follows the engine until ctx ends, and then takes its forwards away.
func (p *publisher) run(ctx context.Context) {
	var guest sync.WaitGroup
	guest.Go(func() { p.redirect.run(ctx) })
	defer guest.Wait()
	for ctx.Err() == nil {
		err := p.docker.await(ctx)
		if err == nil {
			p.redirect.engine(true)
			err = p.follow(ctx)
			p.redirect.engine(false)
		}
		if ctx.Err() != nil {
			break
		}
		p.log.Info("lost docker", "error", err)
		p.keep(err)
		p.docker.close()
		if errors.Is(err, context.DeadlineExceeded) {
			poke(p.redirect.drop) // silent: the guest itself may be another
		}
		pause(ctx, attemptInterval) // it may answer, but not as it should
	}
	p.docker.close()
	p.withdraw(context.WithoutCancel(ctx))
}

func (p *publisher) keep(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// follow keeps the forwards as the engine's containers want them, until the
// engine is lost.
func (p *publisher) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Events that come between the first list and the subscription are sent
	// afterwards: those of this second may be repeated.
	since, err := p.docker.now(ctx)
	if err != nil {
		return err
	}
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- p.docker.events(ctx, since, func() { poke(changed) }) }()

	p.doubt()
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		list, err := p.docker.containers(ctx)
		if err != nil {
			return err
		}
		whole, err := p.set(ctx, publications(list))
		p.keep(err)
		var mend <-chan time.Time
		if !whole {
			mend = time.After(mendInterval)
		}
		if err := p.idle(ctx, changed, ended, tick.C, mend); err != nil {
			return err
		}
	}
}

// idle returns nil when there is something to do, and an error when the engine
// is lost.
func (p *publisher) idle(ctx context.Context, changed <-chan struct{}, ended <-chan error, tick, mend <-chan time.Time) error {
	for {
		select {
		case <-changed:
			return nil
		case <-p.pokes:
			return nil
		case <-mend:
			return nil
		case err := <-ended:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick:
			if err := p.docker.ping(ctx); err != nil {
				return err
			}
		}
	}
}

// set makes the forwards those of the publications, and reports whether all
// are in force. Why one is not stands beside it; an error is about all.
func (p *publisher) set(ctx context.Context, wanted []publication) (whole bool, err error) {
	p.work.Lock()
	defer p.work.Unlock()
	var beyond []publication
	if len(wanted) > maxPublished {
		wanted, beyond = wanted[:maxPublished], wanted[maxPublished:]
	}
	plan := p.plan(wanted)
	look := p.lookAt
	if look {
		if err := p.adopt(ctx, wanted, plan); err != nil {
			return false, err
		}
		p.lookAt = false
	}
	s, err := p.spoken()
	if err != nil {
		return false, err
	}
	p.remove(ctx, func(b binding, f network.Forward) bool {
		r, ok := plan[b]
		return !ok || r.guestPort != f.GuestPort || s.reserved(f)
	}, s)
	p.redirect.want(redirects(wanted, plan), look)
	applied, _, redirectErr := p.redirect.state()
	pending := func(w publication) bool {
		r := plan[w.binding]
		return r.to.IsValid() && !slices.Contains(applied, redirect{w.protocol, r.guestPort, r.to})
	}
	if _, refused := errors.AsType[*refusedError](redirectErr); refused {
		// These lead nowhere.
		closed := map[binding]bool{}
		for _, w := range wanted {
			closed[w.binding] = pending(w)
		}
		p.remove(ctx, func(b binding, _ network.Forward) bool { return closed[b] }, s)
	}
	whole = true
	report := make([]Published, 0, len(wanted))
	for _, w := range wanted {
		r, out := plan[w.binding], w.report()
		f, err := p.current[w.binding], error(nil)
		d, isDeclared := s.declares(target{w.protocol, r.guestPort}, w.port)
		switch {
		case r.err != nil:
			err = r.err
		case pending(w) && redirectErr != nil:
			err = redirectErr
		case f.HostPort == 0 && isDeclared:
			out.HostIP, out.HostPort = d.HostIP, d.HostPort
		case f.HostPort == 0:
			// Also while the redirect is under way: an agent that was killed has
			// most probably left it in force.
			out.GuestPort = r.guestPort
			f, err = p.add(ctx, out.Forward.Forward, s.reserved)
			out.GuestPort = w.port
			if err == nil {
				p.current[w.binding] = f
				p.log.Info("added", "forward", f.String(), "container", w.container)
			}
		}
		if err == nil && pending(w) {
			err = errWaiting
		}
		if f.HostPort != 0 {
			out.HostPort = f.HostPort
		}
		out.Moved = err == nil && out.HostPort != w.port
		if err != nil {
			out.Error = err.Error()
			whole = false
		}
		report = append(report, out)
	}
	for _, w := range beyond {
		out := w.report()
		out.Error = fmt.Sprintf("only %d ports of a machine are forwarded", maxPublished)
		report = append(report, out)
	}
	p.mu.Lock()
	p.report = report
	p.mu.Unlock()
	return whole, nil
}

// report is the publication as it would be if its port were free.
func (w publication) report() Published {
	return Published{
		Container: w.container,
		GuestIP:   w.ip.String(),
		Forward: Forward{Forward: network.Forward{
			Name:     fmt.Sprintf("%s:%d/%s", w.container, w.private.Port(), w.protocol),
			Protocol: w.protocol, HostIP: loopback, HostPort: w.port, GuestPort: w.port,
		}},
	}
}

// remove takes away the forwards that which chooses. One that the machine file
// has, too, by now is left to it.
func (p *publisher) remove(ctx context.Context, which func(binding, network.Forward) bool, s spoken) {
	for b, f := range p.current {
		if !which(b, f) {
			continue
		}
		if !s.routes[routeOf(f)] {
			if err := p.carrier.remove(ctx, f); err != nil && !gone(err) {
				p.log.Warn("cannot remove a forward", "forward", f.String(), "error", err)
				continue
			}
			p.log.Info("removed", "forward", f.String())
		}
		delete(p.current, b)
	}
}

// doubt has the forwards compared with what is in force.
func (p *publisher) doubt() {
	p.work.Lock()
	defer p.work.Unlock()
	p.lookAt = true
	poke(p.pokes)
}

// yield gives up the host ports that the state has other forwards for now, and
// has them replaced by others.
func (p *publisher) yield(ctx context.Context) error {
	p.work.Lock()
	defer p.work.Unlock()
	s, err := p.spoken()
	if err != nil {
		return err
	}
	p.remove(ctx, func(_ binding, f network.Forward) bool { return s.reserved(f) }, s)
	poke(p.pokes)
	return nil
}

var (
	loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

	errWaiting   = errors.New("the guest is being told to let this port in")
	errNoAddress = errors.New("the container has no address on a network that ports are published on")
)

// way is how a publication is reached on the guest's address.
type way struct {
	guestPort uint16
	to        netip.AddrPort // a redirect is needed, to this place in the container
	err       error
}

// plan finds a port of the guest's address for each publication. Ports that
// are bound to all addresses, or to that one, have theirs; what is bound to
// another needs a redirect, from the same port if that is free.
func (p *publisher) plan(wanted []publication) map[binding]way {
	_, guest, _ := p.redirect.state()
	out := map[binding]way{}
	taken := map[target]bool{}
	for _, w := range wanted {
		if w.ip.IsUnspecified() || w.ip == guest {
			out[w.binding] = way{guestPort: w.port}
			taken[target{w.protocol, w.port}] = true
		}
	}
	for _, w := range wanted {
		if _, ok := out[w.binding]; ok {
			continue
		}
		port := w.port
		for spare := uint16(firstSpare); taken[target{w.protocol, port}] && spare != 0; spare++ {
			port = spare
		}
		taken[target{w.protocol, port}] = true
		r := way{guestPort: port, to: w.private}
		if !w.private.IsValid() {
			r.err = errNoAddress
		}
		out[w.binding] = r
	}
	return out
}

func redirects(wanted []publication, plan map[binding]way) []redirect {
	var out []redirect
	for _, w := range wanted {
		if r := plan[w.binding]; r.to.IsValid() {
			out = append(out, redirect{w.protocol, r.guestPort, r.to})
		}
	}
	return out
}

// target is a port of the guest's address.
type target struct {
	protocol string
	port     uint16
}

// spoken is what the project's machines have forwards for.
type spoken struct {
	state    *project.State
	declared map[target][]network.Forward // of this machine, and reached on loopback
	routes   map[route]bool               // of this machine
}

func (p *publisher) spoken() (spoken, error) {
	state, err := p.state()
	if err != nil {
		return spoken{}, err
	}
	s := spoken{state, map[target][]network.Forward{}, map[route]bool{}}
	for _, f := range state.Machines[p.name].Forwards {
		s.routes[routeOf(f)] = true
		if f.HostIP.Is4() && (f.HostIP.IsLoopback() || f.HostIP.IsUnspecified()) {
			t := target{f.Protocol, f.GuestPort}
			s.declared[t] = append(s.declared[t], f)
		}
	}
	return s, nil
}

// declares returns the machine's forward from the host port to t.
func (s spoken) declares(t target, hostPort uint16) (network.Forward, bool) {
	for _, f := range s.declared[t] {
		if f.HostPort == hostPort {
			return f, true
		}
	}
	return network.Forward{}, false
}

// reserved reports whether a machine has the host port of f for a forward of
// its own, also one that is down.
func (s spoken) reserved(f network.Forward) bool {
	for _, m := range s.state.Machines {
		for _, o := range m.Forwards {
			if o.Protocol == f.Protocol && o.HostPort == f.HostPort && (o.HostIP == f.HostIP || o.HostIP.IsUnspecified()) {
				return true
			}
		}
	}
	return false
}

// attempts is how often a port may be lost between looking and binding.
const attempts = 10

// add forwards f from its host port or the next one that is free.
func (p *publisher) add(ctx context.Context, f network.Forward, reserved func(network.Forward) bool) (network.Forward, error) {
	lost := map[uint16]bool{}
	var err error
	for range attempts {
		f.HostPort, err = network.NextFree(ctx, f, func(port uint16) bool {
			o := f
			o.HostPort = port
			return lost[port] || reserved(o)
		})
		if err != nil {
			return network.Forward{}, err
		}
		if err = p.carrier.add(ctx, f); err == nil {
			return f, nil
		}
		if _, taken := errors.AsType[*provider.PortError](err); !taken {
			break
		}
		lost[f.HostPort] = true
	}
	return network.Forward{}, err
}

// adopt compares with what the carrier has. What an agent before this one left
// is taken over where it is wanted, so that its connections live on, and else
// removed; what was lost with the hypervisor's process is forgotten.
func (p *publisher) adopt(ctx context.Context, wanted []publication, plan map[binding]way) error {
	live, err := p.carrier.live(ctx)
	if err != nil {
		return fmt.Errorf("look at the forwards: %w", err)
	}
	// Read after the forwards: a forward of the machine file is in the state
	// before it is made.
	s, err := p.spoken()
	if err != nil {
		return err
	}
	left := map[route]network.Forward{}
	for _, f := range live {
		if f.HostIP == loopback && !s.routes[routeOf(f)] {
			left[routeOf(f)] = f
		}
	}
	for b, f := range p.current {
		if _, ok := left[routeOf(f)]; !ok {
			delete(p.current, b)
		}
		delete(left, routeOf(f))
	}
	for _, w := range wanted {
		r := plan[w.binding]
		if _, ok := p.current[w.binding]; ok {
			continue
		}
		same := network.Forward{Protocol: w.protocol, HostIP: loopback, HostPort: w.port, GuestPort: r.guestPort}
		f, ok := left[routeOf(same)]
		if !ok {
			for _, l := range left {
				if l.Protocol == w.protocol && l.GuestPort == r.guestPort && (!ok || l.HostPort < f.HostPort) {
					f, ok = l, true
				}
			}
		}
		if ok {
			p.current[w.binding] = f
			delete(left, routeOf(f))
		}
	}
	for _, f := range left {
		if err := p.carrier.remove(ctx, f); err != nil && !gone(err) {
			return fmt.Errorf("remove %s: %w", f, err)
		}
		p.log.Info("removed what was left", "forward", f.String())
	}
	return nil
}

// withdraw takes all forwards away. A machine that is down has none.
func (p *publisher) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	p.work.Lock()
	defer p.work.Unlock()
	for b, f := range p.current {
		if err := p.carrier.remove(ctx, f); err != nil {
			if !gone(err) {
				p.log.Warn("cannot remove a forward", "forward", f.String(), "error", err)
			}
			return // nor the others: the next agent removes them
		}
		delete(p.current, b)
	}
}

func gone(err error) bool {
	return errors.Is(err, provider.ErrNotRunning) || errors.Is(err, provider.ErrNotFound)
}
