package mirror

import (
	"maps"
	"slices"
)

// side is where an action changes something.
type side int

const (
	onHost side = iota
	onGuest
)

func (s side) String() string {
	if s == onHost {
		return "host"
	}
	return "guest"
}

func (s side) other() side { return 1 - s }

// verb is what an action does to a path.
type verb string

const (
	put    verb = "put"    // the other side's file, link or directory comes here
	chmod  verb = "chmod"  // the other side's permissions do
	remove verb = "remove" // the other side has it no longer
	aside  verb = "aside"  // it lost a conflict, and gets another name
)

// action is one change on one side.
type action struct {
	verb verb
	on   side
	path string
	has  *entry // what is there; nil: nothing
	want *entry // what is to be there: of put and chmod
	to   string // of aside
}

// plan is what makes two sides alike: what to do to each path, and what of the
// base stays or becomes true by it.
type plan struct {
	actions []*action
	pairs   map[string]*pair // alike already
	skipped []Problem        // not meant to be mirrored
}

// sides is what a plan is made from.
type sides struct {
	host, guest tree
	base        map[string]*pair
	blind       []Problem // directories and files of the host that cannot be read
	incomplete  bool      // the guest may have more than guest says
	both        bool      // the host follows the guest, too
	// equal reports whether two files of one size have the same content.
	equal func(p string) bool
	// leadsOut reports whether a link at p would lead out through one of the host's own.
	leadsOut func(p, target string) bool
}

// Fates of what is in a directory.
const (
	elsewhere kind = 'x' // it goes with its directory
	unseen    kind = 'u' // a link of the guest stands for it, or for a directory above
)

// planner makes a plan. Paths are worked on in order, so that a directory's
// fate is known before that of what is in it.
type planner struct {
	sides
	plan  plan
	fates map[string]kind             // what will be there; 0: nothing
	doing map[string]map[side]*action // but asides
}

func (s sides) plan() *plan {
	pl := &planner{sides: s, fates: map[string]kind{}, doing: map[string]map[side]*action{}}
	pl.plan.pairs = map[string]*pair{}
	paths := map[string]bool{}
	for p := range s.host {
		paths[p] = true
	}
	for p := range s.base {
		paths[p] = true
	}
	if s.both {
		for p := range s.guest {
			paths[p] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		pl.decide(p)
	}
	for _, p := range slices.Sorted(maps.Keys(pl.doing)) {
		for _, on := range []side{onHost, onGuest} {
			if a := pl.doing[p][on]; a != nil {
				pl.plan.actions = append(pl.plan.actions, a)
			}
		}
	}
	return &pl.plan
}

func (pl *planner) do(verb verb, on side, p string, has, want *entry) {
	if pl.doing[p] == nil {
		pl.doing[p] = map[side]*action{}
	}
	pl.doing[p][on] = &action{verb: verb, on: on, path: p, has: has, want: want}
}

// keep notes that both sides have the same.
func (pl *planner) keep(p string, h, g *entry) {
	pl.fates[p] = h.kind
	pl.plan.pairs[p] = &pair{*h, *g}
}

// decide compares what each side has with what was mirrored.
func (pl *planner) decide(p string) {
	h, g, b := pl.host[p], pl.guest[p], pl.base[p]
	switch d := parent(p); {
	case pl.unreadable(p):
		if g != nil {
			pl.fates[p] = g.kind
		}
		pl.keepUnseen(p)
		return
	case pl.fates[d] == unseen:
		pl.fates[p] = unseen
		pl.keepUnseen(p)
		return
	case d != "" && pl.fates[d] != dir && pl.fates[d] != 0:
		pl.fates[p] = elsewhere
		pl.orphan(p, h, g, b)
		return
	}
	switch {
	case pl.both:
		pl.merge(p, h, g, b)
	default:
		pl.push(p, h, g, b)
	}
	if pl.fates[p] != 0 {
		pl.revive(parent(p))
	}
}

// orphan is an entry whose directory becomes something else. What is new in it
// goes aside with the directory.
func (pl *planner) orphan(p string, h, g *entry, b *pair) {
	switch {
	case b == nil:
	case h == nil && g != nil && g.same(&b.guest):
		pl.do(remove, onGuest, p, g, nil)
	case g == nil && h != nil && h.same(&b.host) && pl.both:
		pl.do(remove, onHost, p, h, nil)
	}
}

func (pl *planner) unreadable(p string) bool {
	for _, b := range pl.blind {
		if p == b.Path || within(p, b.Path) {
			return true
		}
	}
	return false
}

// keepUnseen keeps what the base says of p: what is not seen is not gone.
func (pl *planner) keepUnseen(p string) {
	if b := pl.base[p]; b != nil {
		pl.plan.pairs[p] = b
	}
}

// revive keeps a directory that one side removed while the other put something
// into it.
func (pl *planner) revive(d string) {
	for ; d != "" && pl.fates[d] == 0; d = parent(d) {
		pl.fates[d] = dir
		h, g := pl.host[d], pl.guest[d]
		delete(pl.doing, d)
		switch {
		case h != nil && g != nil:
			pl.keep(d, h, g)
		case h != nil:
			pl.do(put, onGuest, d, nil, h)
		case g != nil && pl.both:
			pl.do(put, onHost, d, nil, g)
		}
	}
}

// push makes the guest's entry like the host's, and removes what was mirrored
// and is no longer on the host. What is the guest's own stays.
func (pl *planner) push(p string, h, g *entry, b *pair) {
	if h == nil {
		if b == nil || g == nil {
			return
		}
		if g.same(&b.guest) {
			pl.do(remove, onGuest, p, g, nil)
		} else {
			pl.plan.skipped = append(pl.plan.skipped, Problem{p, errGuestEdited})
		}
		return
	}
	pl.fates[p] = h.kind
	switch {
	case b != nil && h.sameContent(&b.host) && g.sameContent(&b.guest), b == nil && alike(h, g), b != nil && !g.sameContent(&b.guest) && alike(h, g):
		pl.permit(p, onGuest, h, g)
	default:
		pl.do(put, onGuest, p, g, h)
	}
}

// permit gives the entry on one side the other's permissions.
func (pl *planner) permit(p string, on side, h, g *entry) {
	switch {
	case h.mode == g.mode || !modesCount:
		pl.keep(p, h, g)
	case on == onGuest:
		pl.fates[p] = h.kind
		pl.do(chmod, onGuest, p, g, h)
	default:
		pl.fates[p] = h.kind
		pl.do(chmod, onHost, p, h, g)
	}
}

// merge brings what one side changed to the other. Where both did, the later
// change wins and the other is kept beside it.
func (pl *planner) merge(p string, h, g *entry, b *pair) {
	var was pair
	hostHad, guestHad := (*entry)(nil), (*entry)(nil)
	if b != nil {
		was = *b
		hostHad, guestHad = &was.host, &was.guest
	}
	if g == nil && pl.incomplete && b != nil {
		g = guestHad // it was not seen, which is not to say that it is gone
		if h != nil && h.same(hostHad) || h == nil {
			if h != nil {
				pl.fates[p] = h.kind
			}
			pl.plan.pairs[p] = b
			return
		}
	}
	hostChanged, guestChanged := !h.sameContent(hostHad), !g.sameContent(guestHad)
	switch {
	case h == nil && g == nil:
	case !hostChanged && !guestChanged:
		if h.mode != hostHad.mode || g.mode == guestHad.mode {
			pl.permit(p, onGuest, h, g)
		} else {
			pl.permit(p, onHost, h, g)
		}
	case hostChanged && guestChanged && pl.equals(p, h, g):
		pl.permit(p, onGuest, h, g)
	case !guestChanged || g == nil && hostChanged:
		pl.follow(p, onGuest, g, h)
	case !hostChanged || h == nil && guestChanged:
		pl.follow(p, onHost, h, g)
	case h.kind == dir && g.kind == dir:
		pl.permit(p, onGuest, h, g)
	default:
		pl.conflict(p, h, g)
	}
}

// equals reports whether both sides made the same of an entry. Where nothing is
// known of what was mirrored, files of one size and time are taken for the
// same; else two that were written at once are not.
func (pl *planner) equals(p string, h, g *entry) bool {
	if h == nil || g == nil || h.kind != file || g.kind != file {
		return alike(h, g)
	}
	return pl.base == nil && alike(h, g) || h.size == g.size && pl.equal(p)
}

// follow makes one side's entry like the other's.
func (pl *planner) follow(p string, on side, has, want *entry) {
	if want == nil {
		pl.do(remove, on, p, has, nil)
		return
	}
	if on == onHost && pl.refuse(p, has, want) {
		return
	}
	pl.fates[p] = want.kind
	pl.do(put, on, p, has, want)
}

// refuse reports whether the guest's entry is a link that does not come to the
// host. Where it took the place of a directory, what is in that may be where it
// leads.
func (pl *planner) refuse(p string, h, g *entry) bool {
	onDir := h != nil && h.kind == dir
	if g.kind != symlink || inside(p, g.target) && (!onDir || !pl.leadsOut(p, g.target)) {
		return false
	}
	pl.plan.skipped = append(pl.plan.skipped, Problem{p, errLeadsOutside})
	switch {
	case onDir:
		pl.fates[p] = unseen
		pl.keepUnseen(p)
	case h != nil:
		pl.fates[p] = h.kind
	}
	return true
}

// conflict gives the earlier of two changes another name. A directory has no
// time: it wins, since what is in it would have to move with it.
func (pl *planner) conflict(p string, h, g *entry) {
	loser := onGuest
	if pl.refuse(p, h, g) {
		return
	}
	switch {
	case g.kind == dir, h.kind == file && g.kind == file && g.mtime > h.mtime:
		loser = onHost
	}
	lost, won := g, h
	if loser == onHost {
		lost, won = h, g
	}
	name := conflictName(p, loser.String(), lost.mtime, func(name string) bool {
		return pl.host[name] != nil || pl.guest[name] != nil || pl.fates[name] != 0
	})
	pl.fates[p], pl.fates[name] = won.kind, lost.kind
	pl.plan.actions = append(pl.plan.actions, &action{verb: aside, on: loser, path: p, has: lost, to: name})
	pl.do(put, loser, p, nil, won)
	pl.do(put, loser.other(), name, nil, lost)
}
