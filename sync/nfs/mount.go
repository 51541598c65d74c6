//go:build linux || darwin

package nfs

import (
	"crypto/sha256"
	"crypto/subtle"
)

// The MOUNT program, RFC 1813, appendix I.
const (
	mountNull    = 0
	mountMnt     = 1
	mountDump    = 2
	mountUmnt    = 3
	mountUmntAll = 4
	mountExport  = 5

	mountErrAcces = 13
)

func (r *request) mount() uint32 {
	switch r.proc {
	case mountNull, mountUmntAll:
	case mountUmnt:
		r.args.opaque(1024)
	case mountDump, mountExport:
		r.w.bool(false) // nobody is told what there is
	case mountMnt:
		path := r.args.opaque(1024)
		if r.args.bad {
			break
		}
		v := r.s.mountable(path)
		if v == nil {
			r.w.u32(mountErrAcces)
			break
		}
		r.conn.known.Store(true)
		r.w.u32(0)
		r.handleOf(v, v.root)
		r.w.u32(1)
		r.w.u32(authSys)
	default:
		return acceptProcUnavail
	}
	return acceptSuccess
}

// mountable compares path with those of all exports, and takes the same time
// whatever they have in common.
func (s *Server) mountable(path []byte) *volume {
	sum := sha256.Sum256(path)
	var found *volume
	for _, v := range *s.volumes.Load() {
		own := sha256.Sum256([]byte(v.path))
		if subtle.ConstantTimeCompare(sum[:], own[:]) == 1 {
			found = v
		}
	}
	return found
}
