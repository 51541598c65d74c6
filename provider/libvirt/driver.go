// Package libvirt runs guests on a libvirt's qemu driver, of this host or another,
// by libvirt's own protocol: no virsh, no C library. What hostctl has to remember of
// a domain stands in the metadata of its definition, so that the next command, or one
// on another computer, finds it again and removes what it made and nothing else.
package libvirt

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// Config is what a provider needs. URI and ProjectID are required.
type Config struct {
	// URI says which libvirt, as libvirt writes it: qemu:///system,
	// qemu:///session, qemu+ssh://user@host/system, qemu+tls://..., qemu+tcp://...
	URI string
	// Pool is the storage pool of new domains' disks; "" chooses "default", else
	// any that holds files, else makes one.
	Pool string
	// ProjectID returns what tells the project's domains from those of others, or
	// "" while there are none: 12 hex digits.
	ProjectID func() string
	// Grace is how long Stop waits for the guest to shut down before it powers
	// it off; 0 is a minute.
	Grace time.Duration
	// Logger receives what is useful to developers; nil discards it.
	Logger *slog.Logger
}

const (
	defaultGrace = time.Minute
	// powerdownEvery is how often Stop repeats the power button: a guest that is
	// still booting does not hear the first.
	powerdownEvery = 3 * time.Second
)

// New returns a provider for the libvirt of c.URI: a [*System], or for a session a
// [*Session]. It connects to nothing. A URI that cannot be understood is an error.
func New(c Config) (provider.Provider, error) {
	t, err := parseURI(c.URI)
	if err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Grace = cmp.Or(c.Grace, defaultGrace)
	d := &driver{
		cfg: c, target: t, log: c.Logger,
		conn: newConnection(t, c.Logger),
		busy: make(map[string]chan struct{}),
	}
	if t.session {
		s := &Session{driver: d}
		d.networks = s
		return s, nil
	}
	s := &System{driver: d, known: make(map[string]knownAddress)}
	d.networks = s
	return s, nil
}

// driver is what all libvirts have: domains and volumes.
type driver struct {
	cfg      Config
	target   target
	log      *slog.Logger
	conn     *connection
	networks networks
	caps     *capabilities // guarded by acquire("capabilities")

	mu sync.Mutex
	// busy serialises the calls that change one thing; its channel holds a token
	// while one of them runs.
	busy map[string]chan struct{}
}

// networks is how a domain's cards get to the world, which a session has no
// networks for.
type networks interface {
	// check refuses what there is not.
	check(ctx context.Context, d provider.Domain) error
	// remembered is the part of d that a definition depends on.
	remembered(d provider.Domain) provider.Domain
	// prepare makes what the domain's cards need. had is the address that the
	// machine had behind NAT, if it had one.
	prepare(ctx context.Context, d provider.Domain, had netip.Prefix) (cards, error)
	// boot starts the domain; one that runs already is only looked after.
	boot(ctx context.Context, dom domain) error
	// release gives back what the machine had, if anything, once its domain is gone.
	release(ctx context.Context, machine string) error
}

// cards is what a definition has to know about a domain's networks.
type cards struct {
	nat     netip.Prefix    // the guest's address behind NAT, if any
	bridges map[string]bool // interfaces of bridged networks that are bridges already
}

// domain is one of hostctl's domains, as libvirt knows it.
type domain struct {
	rpc.Domain
	record record
	accel  string
	state  rpc.DomainState
}

// running reports whether there is a QEMU.
func (d domain) running() bool {
	return d.state != rpc.DomainShutoff && d.state != rpc.DomainCrashed && d.state != rpc.DomainNostate
}

// find returns the machine's domain. Without one the error is ErrNotFound.
func (d *driver) find(ctx context.Context, name string) (domain, error) {
	if err := ctx.Err(); err != nil {
		return domain{}, context.Cause(ctx)
	}
	if err := checkName(name); err != nil {
		return domain{}, err
	}
	missing := fmt.Errorf("domain %q: %w", name, provider.ErrNotFound)
	project := d.cfg.ProjectID()
	if project == "" {
		return domain{}, missing
	}
	dom, err := call(ctx, d.conn, func(l *rpc.Libvirt) (rpc.Domain, error) { return l.DomainLookupByName(domainName(project, name)) })
	if code(err) == rpc.ErrNoDomain {
		return domain{}, missing
	}
	if err != nil {
		return domain{}, err
	}
	found, err := d.inspect(ctx, dom)
	if code(err) == rpc.ErrNoDomain {
		return domain{}, missing
	}
	if err == nil && found.record.Domain.Name != name {
		err = hint.Wrap(fmt.Errorf("libvirt's domain %s is not hostctl's", dom.Name), "rename it: virsh domrename %s NEW-NAME", dom.Name)
	}
	return found, err
}

// inspect reads a domain's definition. One that is not hostctl's has an empty record.
func (d *driver) inspect(ctx context.Context, dom rpc.Domain) (domain, error) {
	definition, err := call(ctx, d.conn, func(l *rpc.Libvirt) (string, error) { return l.DomainGetXMLDesc(dom, 0) })
	if err != nil {
		return domain{}, err
	}
	state, err := d.state(ctx, dom)
	if err != nil {
		return domain{}, err
	}
	x, tag, r, err := parseDomain(definition)
	if err != nil {
		return domain{}, err
	}
	if tag.Project != d.cfg.ProjectID() {
		r = record{}
	}
	out := domain{Domain: dom, record: r, accel: "tcg", state: state}
	if x.Type == "kvm" {
		out.accel = "kvm"
	}
	return out, nil
}

func (d *driver) state(ctx context.Context, dom rpc.Domain) (rpc.DomainState, error) {
	return call(ctx, d.conn, func(l *rpc.Libvirt) (rpc.DomainState, error) {
		state, _, err := l.DomainGetState(dom, 0)
		return rpc.DomainState(state), err
	})
}

// domains lists those whose name begins so.
func (d *driver) domains(ctx context.Context, namePrefix string) ([]rpc.Domain, error) {
	all, err := call(ctx, d.conn, func(l *rpc.Libvirt) ([]rpc.Domain, error) {
		all, _, err := l.ConnectListAllDomains(1, rpc.ConnectListDomainsActive|rpc.ConnectListDomainsInactive)
		return all, err
	})
	return slices.DeleteFunc(all, func(dom rpc.Domain) bool { return !strings.HasPrefix(dom.Name, namePrefix) }), err
}

// records lists what hostctl noted of the project's domains, or with project "" of all
// projects'.
func (d *driver) records(ctx context.Context, project string) ([]record, error) {
	start := prefix
	if project != "" {
		start = domainName(project, "")
	}
	all, err := d.domains(ctx, start)
	if err != nil {
		return nil, err
	}
	var out []record
	for _, dom := range all {
		definition, err := call(ctx, d.conn, func(l *rpc.Libvirt) (string, error) { return l.DomainGetXMLDesc(dom, rpc.DomainXMLInactive) })
		if code(err) == rpc.ErrNoDomain {
			continue
		}
		if err != nil {
			return nil, err
		}
		_, tag, r, err := parseDomain(definition)
		if err != nil {
			return nil, err
		}
		if r.Domain.Name != "" && (project == "" || tag.Project == project) {
			out = append(out, r)
		}
	}
	return out, nil
}

// Create implements [provider.Provider]. The definition comes last: volumes without
// one are an interrupted Create's, which the next begins anew, unless the guest has
// run on them.
func (d *driver) Create(ctx context.Context, dom provider.Domain) error {
	if err := d.validate(ctx, dom); err != nil {
		return err
	}
	release, err := d.acquire(ctx, "domain "+dom.Name)
	if err != nil {
		return err
	}
	defer release()
	r := newRecord(d.networks.remembered(dom))
	old, err := d.find(ctx, dom.Name)
	exists := err == nil
	switch {
	case errors.Is(err, provider.ErrNotFound):
	case err != nil:
		return err
	case old.record.Domain.ID != dom.ID:
		return hint.Wrap(fmt.Errorf("domain %q already exists with id %s", dom.Name, old.record.Domain.ID),
			"destroy the machine before creating it anew")
	default:
		same, err := r.equal(old.record)
		if err != nil {
			return err
		}
		if old.running() && same {
			return d.recordForwards(ctx, old, r.Domain.Forwards)
		}
		if old.running() {
			return fmt.Errorf("domain %q %w", dom.Name, provider.ErrRunning)
		}
		r.Pool, r.Base, r.BaseVolume, r.FirmwareVolume = old.record.Pool, old.record.Base, old.record.BaseVolume, old.record.FirmwareVolume
	}
	for attempt := 0; ; attempt++ {
		err := d.define(ctx, dom, r, old, exists)
		if attempt == 5 || d.cfg.Pool != "" || !poolLost(err) {
			return err
		}
	}
}

// define makes what the domain needs and then the domain.
func (d *driver) define(ctx context.Context, dom provider.Domain, r record, old domain, exists bool) error {
	project := d.cfg.ProjectID()
	s := surroundings{project: project, session: d.target.session}
	var err error
	if s.accel, _, err = d.accelerator(ctx, dom.Accel, dom.Arch); err != nil {
		return err
	}
	p, err := d.pool(ctx, r.Pool)
	if err != nil {
		return err
	}
	r.Pool = p.Name
	name := func(kind string) string { return volumeName(project, dom.Name, dom.ID, kind) }
	// A network takes as long to make as the volumes do. One that fails does not
	// stop the other halfway.
	var made cards
	var group errgroup.Group
	group.Go(func() (err error) {
		made, err = d.networks.prepare(ctx, dom, old.record.NAT)
		return err
	})
	group.Go(func() error {
		if err := d.ensureDisk(ctx, p, dom, &r, old, exists); err != nil {
			return err
		}
		if err := d.ensureFirmware(ctx, p, dom, &r, &s); err != nil {
			return err
		}
		return d.ensureIgnition(ctx, p, name(ignitionVolume), dom, r, old)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	r.NAT, s.bridges = made.nat, made.bridges
	s.disk, s.ignition, s.serial = p.path(name(diskVolume)), p.path(name(ignitionVolume)), p.path(name(serialVolume))
	s.keepOwner = r.BaseVolume == ""
	s.record = r
	definition, err := domainXML(dom, s)
	if err != nil {
		return err
	}
	_, err = call(ctx, d.conn, func(l *rpc.Libvirt) (rpc.Domain, error) { return l.DomainDefineXML(definition) })
	return err
}

// Start implements [provider.Provider].
func (d *driver) Start(ctx context.Context, name string) error {
	release, err := d.acquire(ctx, "domain "+name)
	if err != nil {
		return err
	}
	defer release()
	dom, err := d.find(ctx, name)
	if err != nil {
		return err
	}
	if !dom.running() {
		if err := d.prepareStart(ctx, dom); err != nil {
			return err
		}
	}
	return d.networks.boot(ctx, dom)
}

// Stop implements [provider.Provider]: the power button, then after the grace
// period the plug.
func (d *driver) Stop(ctx context.Context, name string) error {
	release, err := d.acquire(ctx, "domain "+name)
	if err != nil {
		return err
	}
	defer release()
	dom, err := d.find(ctx, name)
	if err != nil || !dom.running() {
		return err
	}
	reason := d.powerDown(ctx, dom)
	if reason == nil || ctx.Err() != nil {
		return reason
	}
	if err := d.powerOff(ctx, dom); err != nil {
		return err
	}
	return &provider.ForcedError{Err: reason}
}

// Delete implements [provider.Provider]. The definition goes after the volumes, so
// that what an interrupted Delete leaves is still a domain; what the project's
// machines share goes with the last of them.
func (d *driver) Delete(ctx context.Context, name string) error {
	release, err := d.acquire(ctx, "domain "+name)
	if err != nil {
		return err
	}
	defer release()
	project := d.cfg.ProjectID()
	dom, err := d.find(ctx, name)
	exists := err == nil
	if err != nil && !errors.Is(err, provider.ErrNotFound) {
		return err
	}
	if project == "" {
		return nil // nothing was ever made
	}
	if exists && dom.running() {
		if err := d.powerOff(ctx, dom); err != nil {
			return err
		}
	}
	pools, err := d.poolsOf(ctx, dom.record)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if err := p.removeVolumes(ctx, project, name); err != nil && !poolLost(err) {
			return err
		}
	}
	if exists {
		if err := d.undefine(ctx, dom); err != nil {
			return err
		}
	}
	for _, p := range pools {
		if err := errors.Join(p.sweep(ctx), p.retire(ctx)); err != nil && !poolLost(err) {
			return err
		}
	}
	return d.networks.release(ctx, name)
}

// poolsOf returns where a domain's volumes are. A half-made one's may be in any pool
// that could have been chosen. A pool that was removed has taken them along.
func (d *driver) poolsOf(ctx context.Context, r record) ([]pool, error) {
	names := []string{r.Pool}
	if r.Pool == "" {
		var err error
		if names, err = d.filePools(ctx, true); err != nil {
			return nil, err
		}
	}
	var pools []pool
	for _, name := range names {
		p, err := d.pool(ctx, name)
		if poolLost(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		pools = append(pools, p)
	}
	return pools, nil
}

func (d *driver) undefine(ctx context.Context, dom domain) error {
	flags := rpc.DomainUndefineManagedSave | rpc.DomainUndefineSnapshotsMetadata | rpc.DomainUndefineCheckpointsMetadata | rpc.DomainUndefineNvram
	err := do(ctx, d.conn, func(l *rpc.Libvirt) error { return l.DomainUndefineFlags(dom.Domain, flags) })
	if code(err) == rpc.ErrNoDomain {
		return nil
	}
	return err
}

// Status implements [provider.Provider].
func (d *driver) Status(ctx context.Context, name string) (provider.Status, error) {
	dom, err := d.find(ctx, name)
	if err != nil {
		return provider.Status{}, err
	}
	st := provider.Status{State: provider.Stopped, Forwards: dom.record.Domain.Forwards}
	if dom.running() {
		st.State, st.Accel = provider.Running, dom.accel
	}
	return st, nil
}

// acquire waits for its turn to change something.
func (d *driver) acquire(ctx context.Context, what string) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	d.mu.Lock()
	c, ok := d.busy[what]
	if !ok {
		c = make(chan struct{}, 1)
		d.busy[what] = c
	}
	d.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// validate rejects what libvirt's QEMU cannot do, before anything is made.
func (d *driver) validate(ctx context.Context, dom provider.Domain) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := checkName(dom.Name); err != nil {
		return err
	}
	if err := uuid.Validate(dom.ID); err != nil {
		return fmt.Errorf("domain %q: id %q: %w", dom.Name, dom.ID, err)
	}
	if d.cfg.ProjectID() == "" {
		return errors.New("the project has no identity yet")
	}
	if dom.CPUs < 1 || dom.CPUs > maxCPUs {
		return &provider.FieldError{Field: "cpus", Err: fmt.Errorf("%d is not between 1 and %d", dom.CPUs, maxCPUs)}
	}
	if dom.Memory == 0 {
		return &provider.FieldError{Field: "memory", Err: errors.New("0 is not an amount of memory")}
	}
	if len(dom.NICs) > maxNICs {
		return &provider.FieldError{Field: "image", Err: fmt.Errorf("%d networks are more than %d", len(dom.NICs), maxNICs)}
	}
	kib, err := call(ctx, d.conn, func(l *rpc.Libvirt) (uint64, error) {
		_, kib, _, _, _, _, _, _, err := l.NodeGetInfo()
		return kib, err
	})
	if err != nil {
		return err
	}
	if total := provider.MiB(kib >> 10); dom.Memory > total {
		return &provider.FieldError{
			Field:  "memory",
			Err:    fmt.Errorf("%d MiB is more than the %d MiB of libvirt's host", dom.Memory, total),
			Advice: "ask for less memory",
		}
	}
	return d.networks.check(ctx, dom)
}

// maxCPUs is what every machine type allows.
const maxCPUs = 255

// Console implements [provider.Console]: the output since the guest's last start.
// Reading goes on where it ended, once the guest has written more.
func (d *driver) Console(ctx context.Context, name string) (io.ReadCloser, error) {
	dom, err := d.find(ctx, name)
	if err != nil {
		return nil, err
	}
	p, err := d.pool(ctx, dom.record.Pool)
	if err != nil {
		return nil, err
	}
	return &console{ctx: ctx, pool: p, volume: volumeName(d.cfg.ProjectID(), name, dom.record.Domain.ID, serialVolume)}, nil
}

// recordForwards notes which forwards a running domain is to have: what is in force is
// the caller's to change.
func (d *driver) recordForwards(ctx context.Context, dom domain, forwards []network.Forward) error {
	if slices.Equal(dom.record.Domain.Forwards, forwards) {
		return nil
	}
	r := dom.record
	r.Domain.Forwards = forwards
	return d.setRecord(ctx, dom, r)
}

// setRecord changes what is noted of a domain, whether it runs or not.
func (d *driver) setRecord(ctx context.Context, dom domain, r record) error {
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	t := tag{Project: d.cfg.ProjectID(), Machine: r.Domain.Name, Content: string(content)}
	element, err := t.bare("domain")
	if err != nil {
		return err
	}
	flags := rpc.DomainAffectConfig
	if dom.running() {
		flags |= rpc.DomainAffectLive
	}
	return do(ctx, d.conn, func(l *rpc.Libvirt) error {
		return l.DomainSetMetadata(dom.Domain, int32(rpc.DomainMetadataElement), rpc.OptString{element}, rpc.OptString{"hostctl"}, rpc.OptString{namespace}, flags)
	})
}
