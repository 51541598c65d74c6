// Package mirror keeps a copy of a host folder in a guest, and where asked the
// other way round, over one SSH connection. It compares both sides with what
// was mirrored last, so that a file that is missing on one side is known to be
// deleted there or new on the other. Whatever it is interrupted by, the next
// run goes on from what there is.
package mirror

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gofrs/flock"

	"github.com/hostctl/hostctl/internal/durable"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/sshclient"
)

// Config is a share to mirror into one guest.
type Config struct {
	Host   string // absolute; must exist
	Guest  string // absolute; made if it is missing
	Both   bool   // changes in the guest come back; else the host overwrites them
	Ignore []string
	// Machine is the guest's name, for advice only.
	Machine string
	// Base is the file that remembers what was mirrored. It belongs to this
	// share and this machine; its directory must exist.
	Base string
	// DryRun finds out what there is to do, and changes nothing on either side.
	DryRun bool
	// Progress is called now and then, never twice at once; nil: not at all.
	Progress func(Progress)
}

// Progress is how far a run has come. Totals are 0 until they are known.
type Progress struct {
	Files, TotalFiles int   // sent and fetched
	Bytes, TotalBytes int64 // of files' content
}

// Change is something that was done, or is to be done, to a path.
type Change struct {
	Action string // "put", "chmod", "remove" or "aside"
	On     string // "host" or "guest"
	Path   string
	To     string // of aside: the name that the loser of a conflict has now
}

// Result is what a run did, or with DryRun would do.
type Result struct {
	Changes []Change
	Skipped []Problem `json:"-"` // left out on purpose: they are no failure
	Files   int       // sent and fetched
	Bytes   int64
}

// Sync makes both sides alike. It returns [ErrBusy] when another process
// mirrors the share, and a *[PartialError] when all is done but some paths;
// the result counts what was done either way.
func Sync(ctx context.Context, conn Conn, cfg Config) (*Result, error) {
	g := &guest{conn: conn, root: cfg.Guest, skip: NewMatcher(cfg.Ignore)}
	defer g.connect(ctx)()
	return once(ctx, g, cfg, nil)
}

// once is a synchronisation of everything, or where the guest was listed by an
// earlier one, of some of the host's paths.
func once(ctx context.Context, g *guest, cfg Config, only []string) (result *Result, err error) {
	if !cfg.DryRun { // which is in nobody's way
		lock := flock.New(cfg.Base + ".lock")
		locked, err := lock.TryLock()
		if err != nil {
			return nil, err
		}
		if !locked {
			return nil, ErrBusy
		}
		defer func() { err = errors.Join(err, lock.Unlock()) }()
	}

	root, err := os.OpenRoot(cfg.Host)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = missing(cfg)
		}
		return nil, err
	}
	defer func() { _ = root.Close() }() // it is only a handle
	r := &run{
		cfg: cfg, ctx: ctx, result: &Result{},
		host:  &host{root: root, skip: g.skip, syncDir: durable.SyncDir},
		guest: g,
	}
	err = r.sync(only)
	r.result.Files, r.result.Bytes = int(r.files.Load()), r.bytes.Load()
	if sshclient.Lost(err) && !errors.Is(err, sshclient.ErrLost) {
		err = fmt.Errorf("%w: %w", sshclient.ErrLost, err)
	}
	return r.result, err
}

// Known reports whether a base, which need not be there, has anything that was
// mirrored; a damaged one has.
func Known(path string) bool {
	b, err := loadBase(path)
	return err != nil || len(b.pairs) > 0
}

// AdviceForGone is what to do about a folder that had been mirrored, and is not there.
// One that is made in its place is another one: see errOther.
const AdviceForGone = "mount the disk that it is on, or put it back; if it is gone for good, make an empty folder there: nothing is deleted for that in the guest"

func missing(cfg Config) error {
	err := fmt.Errorf("the share's folder %s does not exist", cfg.Host)
	if !Known(cfg.Base) {
		return hint.Wrap(err, "make it, or set create = true in its share block and run hostctl up")
	}
	if cfg.Both {
		return hint.Wrap(err, "%s, and what it has comes back", AdviceForGone)
	}
	return hint.Wrap(err, "%s", AdviceForGone)
}

// run is one synchronisation.
type run struct {
	cfg    Config
	ctx    context.Context // of Sync
	host   *host
	guest  *guest
	known  map[string]*pair // what was mirrored; nil when nothing is known of it
	parts  map[string]bool  // of the host: half done by an earlier run
	result *Result

	mu       sync.Mutex
	pairs    map[string]*pair // what is mirrored by now
	renamed  map[string]bool  // directories of the host that something got its name in
	problems []Problem

	shown             sync.Mutex
	files, totalFiles atomic.Int64
	bytes, totalBytes atomic.Int64
}

// errOther means that what was mirrored is not what the base is about.
var errOther = errors.New("the folder or its copy is another one than before")

// look finds out what each side has.
func (r *run) look(old *base, only []string) (here *scanned, there tree, err error) {
	if only != nil {
		here, there = &scanned{tree: make(tree, len(old.pairs))}, make(tree, len(old.pairs))
		for p, both := range old.pairs {
			here.tree[p], there[p] = &both.host, &both.guest
		}
		return here, there, r.host.rescan(here, only)
	}
	proposed := make([]byte, 16)
	_, _ = rand.Read(proposed) // it never fails
	var scanErr error
	scanning := make(chan struct{})
	go func() {
		defer close(scanning)
		here, scanErr = r.host.scan()
		if scanErr == nil && !r.cfg.DryRun && moved(here.tree, old.pairs) {
			_, _ = r.guest.sftp() // it is started meanwhile; whoever uses it sees how that went
		}
	}()
	there, err = r.guest.list(r.ctx, hex.EncodeToString(proposed), !r.cfg.DryRun)
	<-scanning
	return here, there, errors.Join(err, scanErr)
}

// moved reports whether the host has files that were not mirrored as they are,
// so that the guest's will be written.
func moved(here tree, pairs map[string]*pair) bool {
	for p, e := range here {
		if b := pairs[p]; b == nil || !e.same(&b.host) {
			return true
		}
	}
	return false
}

func (r *run) sync(only []string) error {
	old, err := loadBase(r.cfg.Base)
	if err != nil {
		return err
	}
	identity, err := rootIdentity(r.host.root)
	if err != nil {
		return err
	}
	if only != nil && (r.guest.id != old.guest || identity != old.root) {
		return errOther
	}
	here, there, err := r.look(old, only)
	if err != nil {
		return err
	}
	known := old.pairs
	if only == nil && r.guest.made || r.guest.id != old.guest || identity != old.root {
		known = nil // another copy, or another folder: nothing was deleted
	}
	r.known = known
	s := sides{
		host: here.tree, guest: there, base: known, both: r.cfg.Both, blind: here.blind,
		incomplete: only == nil && r.guest.incomplete != "", equal: r.equal,
		leadsOut: func(p, target string) bool { return r.host.follows(p, target) != nil },
	}
	for _, p := range here.blind {
		if errors.Is(p.Err, errSpecial) {
			r.result.Skipped = append(r.result.Skipped, p)
		} else {
			r.problems = append(r.problems, Problem{p.Path, r.cfg.denied(p.Err)})
		}
	}
	if s.incomplete {
		err := fmt.Errorf("in the guest not all of it can be read: %s", r.guest.incomplete)
		if strings.Contains(strings.ToLower(r.guest.incomplete), "permission denied") {
			err = hint.Wrap(err, "%s", r.cfg.adviceForDenied())
		}
		r.problems = append(r.problems, Problem{r.cfg.Guest, err})
	}
	plan := s.plan()
	r.result.Skipped = append(r.result.Skipped, plan.skipped...)
	if r.cfg.DryRun {
		for _, a := range plan.actions {
			r.record(a)
		}
		return r.partial()
	}
	r.parts, r.renamed = map[string]bool{}, map[string]bool{}
	for _, p := range here.parts {
		r.parts[p] = true
	}
	changed := len(plan.actions) > 0 || len(plan.pairs) != len(old.pairs) || known == nil || !sameBase(plan.pairs, known)
	r.pairs = plan.pairs
	for _, a := range plan.actions {
		if b := known[a.path]; b != nil {
			r.pairs[a.path] = b // until it is done
		}
	}
	err = r.apply(plan)
	if changed {
		if serr := r.settle(); serr != nil {
			r.unsettled()
			if err == nil { // else it says the same
				err = serr
			}
		}
		err = errors.Join(err, (&base{guest: r.guest.id, root: identity, pairs: r.pairs}).save(r.cfg.Base))
	}
	if err != nil {
		return err
	}
	for p := range r.parts {
		if err := r.host.root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.partial()
}

// settle makes sure of what the base is about to say: a side that loses power
// may else come back without files, or with empty ones, which would be taken for
// changes. So it is with those that the guest has made itself.
func (r *run) settle() error {
	if !r.cfg.Both || sameBase(r.pairs, r.known) {
		return nil
	}
	if err := r.host.settle(slices.Collect(maps.Keys(r.renamed))); err != nil || !r.guest.shell {
		return err
	}
	err := r.guest.run(r.ctx, nil, nil, `sync -f -- "$1" 2>/dev/null || sync`, r.guest.root)
	if _, failed := errors.AsType[*scriptError](err); failed {
		return nil // it has no sync
	}
	return err
}

// unsettled has the base say no more than it did: the next run compares the
// contents of what both sides have.
func (r *run) unsettled() {
	for p := range r.pairs {
		if b := r.known[p]; b != nil {
			r.pairs[p] = b
		} else {
			delete(r.pairs, p)
		}
	}
}

// sameBase reports whether what was found alike is what the base says.
func sameBase(pairs, known map[string]*pair) bool {
	for p, b := range pairs {
		if k := known[p]; k == nil || *k != *b {
			return false
		}
	}
	return true
}

func (r *run) partial() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortFunc(r.problems, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return &PartialError{r.problems}
}

// record notes an action for the result.
func (r *run) record(a *action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Changes = append(r.result.Changes, Change{Action: string(a.verb), On: a.on.String(), Path: a.path, To: a.to})
}

// named notes that an entry got its name on the host.
func (r *run) named(p string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renamed[parent(p)] = true
}

// skip notes a path that is left as it is on purpose.
func (r *run) skip(p string, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Skipped = append(r.result.Skipped, Problem{p, why})
}

// did notes that both sides have the same at a path now; nil: nothing.
func (r *run) did(a *action, both *pair) {
	r.record(a)
	r.mu.Lock()
	defer r.mu.Unlock()
	if both == nil {
		delete(r.pairs, a.path)
		return
	}
	r.pairs[a.path] = both
}
