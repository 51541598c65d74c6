package lifecycle

import (
	"context"
	"errors"
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
}

// checks find what this host or the machine file cannot do. They create
// nothing in the project; one that fails stops the whole operation.
func checks() []step {
	return []step{
		// Needs nothing. The provider works, the machine fits this host, and
		// the host ports that the file insists on are free.
		{"check host", (*boot).checkHost},
		// Needs the network only for images that are not cached. Leaves a
		// verified base image in the cache.
		{"fetch image", (*boot).fetchImage},
	}
}

// steps make and start one machine, from nothing or from wherever an earlier
// run was interrupted. They need the project's lock.
func steps() []step {
	return []step{
		// Leaves the machine's identity and its forwards in the state, before
		// anything exists that they name. Runs in the file's order, so that
		// the first machine gets the first port.
		{"assign ports", (*boot).assignPorts},
		// Leaves the keys on disk and the guest's Ignition in memory.
		{"render config", (*boot).renderConfig},
		// Leaves a stopped domain with its overlay. An overlay that exists is
		// kept: the guest's data lives there.
		{"create machine", (*boot).createMachine},
		// Leaves a running domain. A host port that was taken in between is
		// changed where the file allows it.
		{"start machine", (*boot).startMachine},
	}
}

// waits end when the guest is of use. They change nothing but a note in the
// state, and hold no lock: a guest that hangs can be halted from elsewhere.
func waits() []step {
	return []step{
		// The guest answers with the host key it was given.
		{"wait for SSH", (*boot).waitSSH},
		// Docker answers through the address that env prints.
		{"wait for Docker", (*boot).waitDocker},
	}
}

// boot is one machine's way up.
type boot struct {
	*job
	machine  *machinefile.Machine
	provider provider.Provider
	ports    *ports
	restart  bool  // the machine is halted after the checks
	err      error // why the machine goes no further; it was reported

	arch     string               // of the guest, after check host
	accel    string               // what the guest runs on
	image    *image.Image         // after fetch image
	state    project.MachineState // after assign ports
	ignition []byte               // after render config
}

// Up boots machines and returns when Docker answers in each, or SSH where
// Docker is switched off. all is the whole machine file: its other machines
// keep the ports they insist on. Machines that are up are left alone.
func (e *Engine) Up(ctx context.Context, machines, all []*machinefile.Machine) error {
	boots, err := e.boots(machines)
	if err != nil {
		return err
	}
	// Looking needs no lock: a second up neither waits nor writes.
	if up, err := e.allUp(ctx, boots); err != nil || up {
		return err
	}
	if err := e.prepare(ctx, boots); err != nil {
		return err
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	e.start(ctx, boots, all)
	return errors.Join(unlock(), e.await(ctx, boots))
}

func (e *Engine) boots(machines []*machinefile.Machine) ([]*boot, error) {
	boots := make([]*boot, len(machines))
	for i, m := range machines {
		p, err := e.Provider(m.Provider)
		if err != nil {
			return nil, err
		}
		boots[i] = &boot{job: e.job(m.Name), machine: m, provider: p}
	}
	return boots, nil
}

// allUp reports the machines as done when every one of them answers.
func (e *Engine) allUp(ctx context.Context, boots []*boot) (bool, error) {
	state, err := e.Project.Load()
	if err != nil {
		return false, err
	}
	if state.Dir != "" && state.Dir != e.Project.Dir() {
		return false, nil // moved: the lock's holder registers the new place
	}
	if err := each(boots, func(b *boot) error { return b.answers(ctx, state) }); err != nil {
		// Why it does not answer is for the steps to find out.
		return false, ctx.Err()
	}
	for _, b := range boots {
		b.finishUp()
	}
	return true, nil
}

// answers returns nil when the machine runs and Docker answers right now.
func (b *boot) answers(ctx context.Context, state *project.State) error {
	ms := state.Machines[b.name]
	status, err := b.provider.Status(ctx, b.name)
	if err != nil {
		return err
	}
	if status.State != provider.Running || !ms.Ready {
		return provider.ErrNotRunning
	}
	b.state = ms
	host := ms.DockerHost()
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
	for _, c := range pending(b.state.Spec, specOf(b.machine)) {
		b.notice("%s", c)
	}
	message := "ssh on " + b.state.SSH().HostAddr().String()
	if host := b.state.DockerHost(); host != "" {
		message = "Docker on " + host
	}
	b.finish(message, nil)
}
