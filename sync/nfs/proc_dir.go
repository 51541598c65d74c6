//go:build linux || darwin

package nfs

import "time"

// maxList is the most that a reply of READDIR or READDIRPLUS takes.
const maxList = 64 << 10

// readdir is READDIR, and READDIRPLUS with plus.
func (r *request) readdir(plus bool) {
	t, err := r.handle()
	cookie := r.args.u64()
	verifier := r.args.u64()
	names := r.args.u32() // most bytes of names and cookies
	most := names
	if plus {
		most = r.args.u32()
	}
	if r.args.bad {
		return
	}
	// Cookies are the file system's own and hold for ever: there is nothing
	// to verify.
	if err == nil && cookie != 0 && verifier != 0 {
		err = errBadCookie
	}
	var w at
	var a attr
	if err == nil {
		w, a, err = t.enter(&r.cred, 4)
	}
	if err != nil {
		r.status(err)
		r.after(t.v, t.glance())
		return
	}
	defer w.release()
	header := len(r.w.b)
	r.status(nil)
	r.after(t.v, &a)
	r.w.u64(0)
	l := lister{
		r: r, t: t, w: w, dir: &a, plus: plus && r.cred.may(&a, 1), plusReply: plus,
		began: time.Now(), start: header, most: int(min(most, maxList)), names: int(min(names, maxList)),
	}
	list := r.s.memory.get(0, nil)
	defer r.s.memory.put(list, nil)
	end := true
	err = readDir(w.fd, cookie, list.b[:listSize(l.names)], func(e *dirent) bool {
		end = l.add(e)
		return end
	})
	if err == nil && !end && l.count == 0 {
		err = errTooSmall
	}
	if err != nil {
		r.w.b = r.w.b[:header]
		r.status(err)
		r.after(t.v, &a)
		return
	}
	r.w.bool(false)
	r.w.bool(end)
}

// listSize is how much is asked of the host at one time for n bytes of names:
// what is read beyond the reply is read again.
func listSize(n int) int { return max(4<<10, min(n, small)) }

// lister writes the entries of a directory.
type lister struct {
	r         *request
	t         target
	w         at
	dir       *attr
	plus      bool // with attributes and handles
	plusReply bool // of READDIRPLUS
	began     time.Time
	start     int // of the result in the reply
	most      int // bytes of the result
	names     int // bytes left of names and cookies
	count     int
}

// add writes an entry, unless it does not fit.
func (l *lister) add(e *dirent) bool {
	name := string(e.name)
	before := len(l.r.w.b)
	w := &l.r.w
	id := l.t.v.id(l.dir.dev, e.ino)
	var a attr
	var n *node
	switch {
	case name == ".":
		id, a, n = l.dir.id, *l.dir, l.t.n
	case name == "..":
		n = l.t.n
		if parent, _, _ := l.t.v.whereabouts(l.t.n); parent != nil {
			n = parent
		}
		id = n.id
		if l.plus {
			if p := (target{l.t.v, n}).glance(); p != nil {
				a = *p
			} else {
				n = nil
			}
		}
	case l.plus:
		var err error
		if a, err = l.t.v.attrAt(l.w.fd, name); err == nil {
			n = l.t.v.child(l.t.n, name, a.plainStat())
			id = a.id
		}
	}
	w.bool(true)
	w.u64(id)
	w.str(name)
	w.u64(e.next)
	l.names -= 24 + len(name)
	if l.plusReply {
		if l.plus && n != nil {
			l.r.after(l.t.v, &a)
			w.bool(true)
			l.r.handleOf(l.t.v, n)
		} else {
			w.bool(false)
			w.bool(false)
		}
	}
	// Eight more bytes end the list.
	if len(w.b)-l.start+8 > l.most || l.names < 0 && l.count > 0 {
		w.b = w.b[:before]
		return false
	}
	l.count++
	if time.Since(l.began) > quickTime {
		l.r.takesLong()
	}
	return true
}
