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

// steps bring one machine from nothing, or from wherever an earlier run was
// interrupted, to a Docker API that answers. They need the project's lock.
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
	restart  bool // the machine is halted after the checks
	failed   bool // halting it did not work

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
	return errors.Join(e.bring(ctx, boots, all), unlock())
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

// prepare runs the checks of all machines. One that fails stops them all,
// before anything was created.
func (e *Engine) prepare(ctx context.Context, boots []*boot) error {
	failed := make([]error, len(boots))
	index := make([]int, len(boots))
	for i := range boots {
		index[i] = i
	}
	err := each(index, func(i int) error {
		failed[i] = boots[i].through(ctx, checks())
		return failed[i]
	})
	if err == nil {
		return nil
	}
	for i, b := range boots {
		if failed[i] != nil {
			b.finish("", failed[i])
		} else {
			b.finish("left as it was: another machine failed its checks", nil)
		}
	}
	return err
}

// bring runs the steps of all machines in parallel. The caller holds the lock.
func (e *Engine) bring(ctx context.Context, boots []*boot, all []*machinefile.Machine) error {
	plan := &ports{machines: all}
	steps := steps()
	assigned := make(map[*boot]error)
	for _, b := range boots {
		b.ports = plan
		assigned[b] = b.through(ctx, steps[:1])
	}
	return each(boots, func(b *boot) error {
		err := assigned[b]
		if err == nil {
			err = b.through(ctx, steps[1:])
		}
		if err != nil {
			b.finish("", err)
			return err
		}
		b.finishUp()
		return nil
	})
}

func (b *boot) through(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := b.do(s.name, func() (string, error) { return s.run(b, ctx) }); err != nil {
			return err
		}
	}
	return nil
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
