package lifecycle

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
)

// step is one thing on a machine's way up. Each can run twice: it looks, then
// acts. run returns what it found or did, in a few words.
type step struct {
	name string
	run  func(b *boot, ctx context.Context) (string, error)
	// needed says whether the machine goes through it; nil: every one does.
	needed func(b *boot) bool
}

// checks find what this host or the machine file cannot do. They create
// nothing in the project; one that fails stops the whole operation.
func checks() []step {
	return []step{
		// Needs nothing. The provider works, the machine fits this host, its
		// networks are in nobody's way, and the host ports that the file
		// insists on are free.
		{name: "check host", run: (*boot).checkHost},
		// Needs the network only for images that are not cached. Leaves a
		// verified base image in the cache.
		{name: "fetch image", run: (*boot).fetchImage},
	}
}

// steps make and start one machine, from nothing or from wherever an earlier
// run was interrupted. They need the project's lock.
func steps() []step {
	return []step{
		// Leaves the machine's identity, its addresses and its forwards in the
		// state, before anything exists that they name. Runs in the file's
		// order, so that the first machine gets the first port.
		{name: "assign ports", run: (*boot).assignPorts},
		// Leaves the keys on disk and the guest's Ignition in memory.
		{name: "render config", run: (*boot).renderConfig},
		// Leaves the host-only networks that the machine is on. Those whose last
		// machine is gone are removed by destroy.
		{name: "make networks", run: (*boot).makeNetworks, needed: func(b *boot) bool { return hostOnly(b.state) }},
		// Leaves a stopped domain with its overlay. An overlay that exists is
		// kept: the guest's data lives there.
		{name: "create machine", run: (*boot).createMachine},
		// Leaves the host's folders that are to be made, and the secret by which
		// guests mount what the agent serves.
		{name: "prepare shares", run: (*boot).prepareShares, needed: (*boot).shared},
		// Leaves a running domain. A host port that was taken in between is
		// changed where the file allows it.
		{name: "start machine", run: (*boot).startMachine},
	}
}

// waits end when the guest is of use. They change nothing but a note in the
// state, and hold no lock: a guest that hangs can be halted from elsewhere.
func waits() []step {
	return []step{
		// The guest answers with the host key it was given.
		{name: "wait for SSH", run: (*boot).waitSSH},
		// The guest has its shares, as the file says. A container that Docker
		// starts by itself finds them: see the units.
		{name: "mount shares", run: (*boot).mountShares, needed: (*boot).shared},
		// Docker answers through the address that env prints.
		{name: "wait for Docker", run: (*boot).waitDocker},
	}
}

// boot is one machine's way up.
type boot struct {
	*job
	machine  *machinefile.Machine
	provider provider.Provider
	op       *operation
	ports    *ports
	live     bool  // its forwards change while it runs
	restart  bool  // the machine is halted after the checks
	replace  bool  // the machine is destroyed after the checks
	err      error // why the machine goes no further; it was reported

	plan     MachinePlan          // as the machine was found
	status   provider.Status      // as the machine was found; zero when it could not be
	arch     string               // of the guest, after check host
	accel    string               // what the guest runs on
	image    *image.Image         // after fetch image
	state    project.MachineState // as found; new after assign ports
	fresh    bool                 // there was no domain before assign ports
	ignition []byte               // after render config
	// interfaces of the host for the bridged networks, after check host
	interfaces map[string]string
}

// Up boots machines and returns when Docker answers in each, or SSH where
// Docker is switched off. What changed in the machine file is applied at once
// where a running machine can take it on; restarts and replacements only as
// agreed, and else said in notices. all is the whole machine file: its other
// machines keep the ports they insist on. Machines that are up are left alone.
func (e *Engine) Up(ctx context.Context, machines, all []*machinefile.Machine) error {
	// Looking needs no lock: a second up neither waits nor writes.
	boots, state, err := e.boots(ctx, machines, all)
	if err != nil {
		return err
	}
	if err := e.agree(ctx, boots); err != nil {
		return err
	}
	if up, err := e.allUp(ctx, boots, state); err != nil || up {
		return err
	}
	if err := e.prepare(ctx, boots); err != nil {
		return err
	}
	e.announce(boots)
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	e.clear(ctx, boots)
	e.start(ctx, boots, all)
	err = errors.Join(unlock(), e.await(ctx, boots))
	e.tellOthers(ctx, boots)
	return err
}

// boots looks at the machines.
func (e *Engine) boots(ctx context.Context, machines, all []*machinefile.Machine) ([]*boot, *project.State, error) {
	state, err := e.Project.Load()
	if err != nil {
		return nil, nil, err
	}
	if err := e.checkLibvirt(state); err != nil {
		return nil, nil, err
	}
	op := &operation{all: all, replaced: map[string]bool{}}
	boots := make([]*boot, len(machines))
	for i, m := range machines {
		boots[i] = &boot{job: e.job(m.Name), machine: m, op: op}
	}
	if err := each(boots, func(b *boot) error { return b.look(ctx, state) }); err != nil {
		return nil, nil, err
	}
	return boots, state, context.Cause(ctx)
}

// look finds out what there is of the machine. A provider that does not tell
// is for the steps to complain about.
func (b *boot) look(ctx context.Context, state *project.State) error {
	b.state, b.status = state.Machines[b.name], provider.Status{}
	at := Unknown
	if b.state.Provider == "" {
		at = NotCreated
	} else {
		p, err := b.engine.Provider(b.state.Provider)
		if err != nil {
			return err
		}
		b.provider = p
		switch b.status, err = p.Status(ctx, b.name); {
		case errors.Is(err, provider.ErrNotFound):
			at = NotCreated
		case err == nil:
			at = b.status.State
		}
	}
	b.plan = planOf(b.machine, b.state, at)
	if at != NotCreated {
		return nil
	}
	p, err := b.engine.Provider(b.machine.Provider)
	b.provider = p
	return err
}

// providerName is the provider that the machine is at, or will be.
func (b *boot) providerName() string {
	if b.replace {
		return b.machine.Provider
	}
	return b.plan.Provider
}

// allUp reports the machines as done when every one of them answers and
// follows the file as far as was agreed.
func (e *Engine) allUp(ctx context.Context, boots []*boot, state *project.State) (bool, error) {
	if state.Dir != "" && state.Dir != e.Project.Dir() {
		return false, nil // moved: the lock's holder registers the new place
	}
	for _, b := range boots {
		b.lookAtFolders()
	}
	for _, b := range boots {
		if b.restart || b.replace || !b.settled(ctx, state) {
			return false, nil
		}
	}
	if err := each(boots, func(b *boot) error { return b.answers(ctx) }); err != nil {
		// Why it does not answer is for the steps to find out.
		return false, context.Cause(ctx)
	}
	for _, b := range boots {
		b.finishUp()
	}
	return true, nil
}

// settled reports whether the machine runs and nothing can be changed in place.
func (b *boot) settled(ctx context.Context, state *project.State) bool {
	if b.status.State != provider.Running || !b.state.Ready {
		return false
	}
	for _, c := range b.plan.Changes {
		if c.Takes == UpdateAction {
			return false
		}
	}
	if !slices.Equal(b.state.Names, namesFor(state, b.name)) || !b.networksThere(ctx) || !b.foldersThere(ctx) || !b.mountsTold(ctx) {
		return false
	}
	// An up that was killed may have written down more than it did.
	return !b.forwards() || sameForwards(b.status.Forwards, b.state.Forwards)
}

// answers returns nil when Docker answers right now. An agent that died is
// started again.
func (b *boot) answers(ctx context.Context) error {
	if b.needsAgent() {
		if err := b.engine.agent().Sync(ctx, b.name); err != nil {
			return err
		}
		if !b.mountsTold(ctx) {
			return errors.New("its shares are served elsewhere now")
		}
	}
	if err := b.exportFolders(ctx); err != nil {
		return err
	}
	host := b.state.DockerHost()
	if host == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return b.engine.Guests.PingDocker(ctx, host)
}

var errSkipped = errors.New("left as it was: another machine failed its checks")

// prepare runs the checks of all machines. One that fails stops them all,
// before anything was created.
func (e *Engine) prepare(ctx context.Context, boots []*boot) error {
	if err := e.Project.CheckWritable(); err != nil {
		return err
	}
	err := each(boots, func(b *boot) error {
		b.through(ctx, checks())
		if errors.Is(b.err, errRefused) {
			return nil
		}
		return b.err
	})
	if err == nil {
		e.warnOfMemory(ctx, boots)
	} else {
		for _, b := range boots {
			if b.err == nil {
				b.notice("%v", errSkipped)
				b.fail(errSkipped)
			}
		}
	}
	return err
}

// clear halts and destroys what was agreed to, and is still to be: the file may
// have been applied while this command waited for the lock. The caller holds it.
func (e *Engine) clear(ctx context.Context, boots []*boot) {
	_ = each(boots, func(b *boot) error { // await returns the machines' errors
		err := b.err
		if err == nil && (b.restart || b.replace) {
			err = b.clear(ctx)
		}
		if err != nil && b.err == nil {
			b.fail(err)
		}
		return nil
	})
}

func (b *boot) clear(ctx context.Context) error {
	state, err := b.engine.Project.Load()
	if err != nil {
		return err
	}
	if err := b.look(ctx, state); err != nil {
		return err
	}
	switch b.plan.Action {
	case RestartAction:
		if b.restart {
			_, err = b.engine.haltOne(ctx, b.job)
		}
	case ReplaceAction:
		if b.replace {
			if err = b.engine.renewOne(ctx, b.job); err == nil {
				b.provider, err = b.engine.Provider(b.machine.Provider)
			}
		}
	}
	return err
}

// start makes and starts the machines that nothing is wrong with yet. The
// caller holds the lock.
func (e *Engine) start(ctx context.Context, boots []*boot, all []*machinefile.Machine) {
	plan := &ports{machines: all}
	steps := steps()
	for _, b := range boots {
		b.ports = plan
		b.through(ctx, steps[:1])
	}
	_ = each(boots, func(b *boot) error { // await returns the machines' errors
		b.through(ctx, steps[1:])
		return nil
	})
}

// await waits for the machines that were started, and returns what went wrong
// with any of them.
func (e *Engine) await(ctx context.Context, boots []*boot) error {
	return each(boots, func(b *boot) error {
		b.through(ctx, waits())
		if b.err == nil {
			b.finishUp()
		}
		return b.err
	})
}

// through takes a machine through steps, up to the first that fails.
func (b *boot) through(ctx context.Context, steps []step) {
	for _, s := range steps {
		if b.err != nil {
			return
		}
		if s.needed != nil && !s.needed(b) {
			continue
		}
		err := context.Cause(ctx)
		if err == nil {
			err = b.do(s.name, func() (string, error) { return s.run(b, ctx) })
		}
		if err != nil {
			b.fail(err)
		}
	}
}

// fail reports that the machine goes no further.
func (b *boot) fail(err error) {
	b.err = err
	b.finish("", err)
}

// finishUp reports a machine that is up, and what of the machine file it does
// not follow yet.
func (b *boot) finishUp() {
	for _, c := range changes(b.machine, b.state, specOf(b.machine)) {
		if c.Takes.disturbs() {
			b.notice("%s", c.pending())
		}
	}
	message := "ssh on " + b.state.SSH().HostAddr().String()
	if host := b.state.DockerHost(); host != "" {
		message = "Docker on " + host
	}
	b.finish(message, nil)
}
