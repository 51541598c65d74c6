//go:build linux || darwin

package nfs

// fs does what FSSTAT, FSINFO and PATHCONF have in common.
func (r *request) fs(result func(w at) error) {
	t, err := r.handle()
	if r.args.bad {
		return
	}
	header := len(r.w.b)
	var w at
	var a attr
	if err == nil {
		w, a, err = t.v.reach(t.n)
	}
	if err != nil {
		r.status(err)
		r.after(t.v, nil)
		return
	}
	defer w.release()
	r.status(nil)
	r.after(t.v, &a)
	if err := result(w); err != nil {
		r.w.b = r.w.b[:header]
		r.status(err)
		r.after(t.v, &a)
	}
}

func (r *request) fsstat() {
	r.fs(func(w at) error {
		total, free, avail, files, freeFiles, err := space(w.fd)
		if err != nil {
			return err
		}
		for _, v := range [...]uint64{total, free, avail, files, freeFiles, freeFiles} {
			r.w.u64(v)
		}
		r.w.u32(0) // may change at any time
		return nil
	})
}

// The properties of FSINFO; RFC 1813, section 3.3.19.
const (
	hasLinks    = 1
	hasSymlinks = 2
	isUniform   = 8
	setsTimes   = 16
)

func (r *request) fsinfo() {
	r.fs(func(at) error {
		for range 2 { // READ, then WRITE: most, preferred, multiple
			r.w.u32(maxData)
			r.w.u32(maxData)
			r.w.u32(4096)
		}
		r.w.u32(maxList)
		r.w.u64(maxFileSize)
		r.w.u32(0) // a nanosecond is told apart
		r.w.u32(1)
		r.w.u32(hasLinks | hasSymlinks | isUniform | setsTimes)
		return nil
	})
}

func (r *request) pathconf() {
	r.fs(func(at) error {
		r.w.u32(32000) // links; the host's file system says which is one too many
		r.w.u32(255)
		r.w.bool(true) // longer names are errors
		r.w.bool(true) // only root gives files away
		r.w.bool(caseInsensitive)
		r.w.bool(true)
		return nil
	})
}
