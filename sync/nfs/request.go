//go:build linux || darwin

package nfs

import (
	"strings"
)

// request is a call under way.
type request struct {
	call
	s    *Server
	conn *conn
	out  *buffer // what w writes to
	w    writer

	takesLong func() // to be called by what does; may be called again

	good    bool     // what status wrote
	origins *origins // where to note what the call changes; nil if nobody asks
}

// The procedures of NFS version 3; RFC 1813, section 3.3.
const (
	procNull        = 0
	procGetattr     = 1
	procSetattr     = 2
	procLookup      = 3
	procAccess      = 4
	procReadlink    = 5
	procRead        = 6
	procWrite       = 7
	procCreate      = 8
	procMkdir       = 9
	procSymlink     = 10
	procMknod       = 11
	procRemove      = 12
	procRmdir       = 13
	procRename      = 14
	procLink        = 15
	procReaddir     = 16
	procReaddirplus = 17
	procFsstat      = 18
	procFsinfo      = 19
	procPathconf    = 20
	procCommit      = 21
)

// changesNames tells whether making the call twice is not the same as once.
func (r *request) changesNames() bool {
	return r.proc >= procCreate && r.proc <= procLink || r.proc == procSetattr
}

// run makes the call and writes the reply.
func (r *request) run() {
	r.w.begin(r.xid, acceptSuccess)
	end := r.begins()
	accept := r.dispatch()
	end()
	if r.args.bad && accept == acceptSuccess {
		accept = acceptGarbageArgs
	}
	if accept == acceptSuccess {
		return
	}
	r.w.begin(r.xid, accept)
	if accept == acceptProgMismatch {
		r.w.u32(version)
		r.w.u32(version)
	}
}

func (r *request) dispatch() uint32 {
	switch {
	case r.prog != progNFS && r.prog != progMount:
		return acceptProgUnavail
	case r.vers != version:
		return acceptProgMismatch
	case r.prog == progMount:
		return r.mount()
	}
	if p := r.replay(); p != nil {
		r.origins = nil
		if r.replayed(p) {
			return acceptSuccess
		}
	}
	switch r.proc {
	case procNull:
	case procGetattr:
		r.getattr()
	case procSetattr:
		r.setattr()
	case procLookup:
		r.lookup()
	case procAccess:
		r.access()
	case procReadlink:
		r.readlink()
	case procRead:
		r.read()
	case procWrite:
		r.write()
	case procCreate:
		r.create()
	case procMkdir:
		r.mkdir()
	case procSymlink:
		r.symlink()
	case procMknod:
		r.mknod()
	case procRemove:
		r.remove(false)
	case procRmdir:
		r.remove(true)
	case procRename:
		r.rename()
	case procLink:
		r.link()
	case procReaddir:
		r.readdir(false)
	case procReaddirplus:
		r.readdir(true)
	case procFsstat:
		r.fsstat()
	case procFsinfo:
		r.fsinfo()
	case procPathconf:
		r.pathconf()
	case procCommit:
		r.commit()
	default:
		return acceptProcUnavail
	}
	return acceptSuccess
}

// file is the handle that the arguments go on with, and what it stands for.
type target struct {
	v *volume
	n *node
}

// handle reads a handle. What it says of a handle that is not good comes when
// the procedure uses it: the arguments after it must be read first.
func (r *request) handle() (t target, err error) { return r.resolve(r.args.opaque(64)) }

func (r *request) resolve(raw []byte) (t target, err error) {
	h, err := r.s.seal.open(raw)
	if err != nil {
		return target{}, err
	}
	if !r.conn.known.Load() {
		r.conn.known.Store(true)
	}
	v := r.s.volume(h.export)
	if v == nil {
		return target{}, r.s.absent(h.export)
	}
	if n := v.known(h); n != nil {
		return target{v, n}, nil
	}
	if h.id == rootID {
		return target{v, v.root}, nil
	}
	n, err := v.find(h)
	return target{v, n}, err
}

// name reads a file name. Longer ones than a name can be are read, too: that
// is the caller's error, not the message's.
func (r *request) name() string { return string(r.args.opaque(4096)) }

// checkName tells what is wrong with a name that something is to be made,
// removed or found under.
func checkName(name string) error {
	switch {
	case name == "" || strings.ContainsAny(name, "/\x00"):
		return errInval
	case len(name) > 255:
		return errNameTooLong
	}
	return nil
}

// status writes how the call went, and returns whether it went well.
func (r *request) status(err error) bool {
	s := statusOf(err)
	if s == errServerFault {
		r.s.log.Debug("nfs request", "proc", r.proc, "err", err)
	}
	r.w.u32(uint32(s))
	r.good = s == ok
	return r.good
}
