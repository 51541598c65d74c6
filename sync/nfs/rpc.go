//go:build linux || darwin

package nfs

// ONC RPC, RFC 5531.
const (
	msgCall  = 0
	msgReply = 1

	msgAccepted = 0
	msgDenied   = 1

	acceptSuccess      = 0
	acceptProgUnavail  = 1
	acceptProgMismatch = 2
	acceptProcUnavail  = 3
	acceptGarbageArgs  = 4

	rejectRPCMismatch = 0
	rejectAuthError   = 1

	authNone = 0
	authSys  = 1

	authBadCred = 1
	authTooWeak = 5

	progNFS   = 100003
	progMount = 100005
	version   = 3

	maxAuth   = 400 // section 8.2
	maxGroups = 16  // appendix A
)

// nobody is who callers without credentials are.
const nobody = 65534

// cred is a caller by AUTH_SYS.
type cred struct {
	uid, gid uint32
	groups   [maxGroups]uint32
	n        int
	machine  []byte // what it calls itself; part of the message
}

func (c *cred) root() bool { return c.uid == 0 }

func (c *cred) in(gid uint32) bool {
	if c.gid == gid {
		return true
	}
	for _, g := range c.groups[:c.n] {
		if g == gid {
			return true
		}
	}
	return false
}

// may tells whether the mode of a lets the caller do all of want: 4 to read, 2
// to write, 1 to execute or search.
func (c *cred) may(a *attr, want uint32) bool {
	if c.root() {
		return want&1 == 0 || a.isDir() || a.mode&0o111 != 0
	}
	perm := a.mode
	switch {
	case c.uid == a.uid:
		perm >>= 6
	case c.in(a.gid):
		perm >>= 3
	}
	return perm&want == want
}

// owns tells whether the caller can change what only the owner can.
func (c *cred) owns(a *attr) bool { return c.root() || c.uid == a.uid }

// call is the header of a call, with the arguments still to be read.
type call struct {
	xid, prog, vers, proc uint32
	cred                  cred
	flavor                uint32
	args                  reader
}

// rpcFault is why a call cannot be made: what the reply has after the xid.
type rpcFault []uint32

// parseCall reads a message. It returns false when it is not a call: there is
// nobody to reply to.
func parseCall(b []byte, c *call) (fault rpcFault, isCall bool) {
	r := reader{b: b}
	*c = call{xid: r.u32()}
	kind, rpcvers := r.u32(), r.u32()
	c.prog, c.vers, c.proc = r.u32(), r.u32(), r.u32()
	if r.bad || kind != msgCall {
		return nil, false
	}
	if rpcvers != 2 {
		return rpcFault{msgReply, msgDenied, rejectRPCMismatch, 2, 2}, true
	}
	c.flavor = r.u32()
	body := r.opaque(maxAuth)
	r.u32()
	r.opaque(maxAuth)
	if r.bad {
		return rpcFault{msgReply, msgDenied, rejectAuthError, authBadCred}, true
	}
	c.cred = cred{uid: nobody, gid: nobody}
	switch c.flavor {
	case authNone:
	case authSys:
		if !parseAuthSys(body, &c.cred) {
			return rpcFault{msgReply, msgDenied, rejectAuthError, authBadCred}, true
		}
	default:
		return rpcFault{msgReply, msgDenied, rejectAuthError, authTooWeak}, true
	}
	c.args = r
	return nil, true
}

// parseAuthSys reads authsys_parms, RFC 5531 appendix A.
func parseAuthSys(b []byte, c *cred) bool {
	r := reader{b: b}
	r.u32() // stamp
	c.machine = r.opaque(255)
	c.uid, c.gid = r.u32(), r.u32()
	n := r.u32()
	if r.bad || n > maxGroups {
		return false
	}
	c.n = int(n)
	for i := range c.n {
		c.groups[i] = r.u32()
	}
	return !r.bad && len(r.b) == 0
}

// replyHeader is the length of what stands before a procedure's result: the
// record mark, xid, REPLY, accepted, an empty verifier, and how it went.
const replyHeader = 4 * 7

// begin starts a reply that the server accepts.
func (w *writer) begin(xid, accept uint32) {
	w.b = w.b[:0]
	for _, v := range [...]uint32{0, xid, msgReply, msgAccepted, authNone, 0, accept} {
		w.u32(v)
	}
}

// deny makes the reply to a call that cannot be made.
func (w *writer) deny(xid uint32, f rpcFault) {
	w.b = w.b[:0]
	w.u32(0)
	w.u32(xid)
	for _, v := range f {
		w.u32(v)
	}
}

// lastFragment marks a record that is whole; RFC 5531, section 11.
const lastFragment = 1 << 31

// end sets the record mark.
func (w *writer) end() { w.setU32(0, uint32(len(w.b)-4)|lastFragment) }
