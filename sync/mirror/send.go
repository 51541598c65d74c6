package mirror

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/sshclient"
)

const (
	// small files go to the guest as one stream, which its tar takes apart:
	// there no file costs a round trip, nor a process switch for each request.
	small = 1 << 20
	// batchBytes and batchEntries bound what an interruption can cost.
	batchBytes   = 128 << 20
	batchEntries = 20_000
)

// unit is something that is put together beside its place in the guest and
// gets there by one rename: a file, a link, or a directory with all in it.
type unit struct {
	stage   string // where it is put together
	top     *action
	rest    []*action // below top, directories first
	packed  []packed  // what of it was sent
	entries int
	bytes   int64
}

// send brings the host's entries to the guest.
func (r *run) send(actions []*action) error {
	if len(actions) == 0 {
		return nil
	}
	client, err := r.guest.sftp()
	if err != nil {
		return err
	}
	for _, a := range actions {
		if a.has != nil && (a.has.kind == dir) != (a.want.kind == dir) {
			if err := r.over(a, r.clear(a)); err != nil {
				return err
			}
			a.has = nil
		}
	}
	var large []*action
	if r.guest.tar {
		units, dirs, files := r.units(actions)
		large = files
		for _, a := range dirs {
			if err := r.over(a, r.mkdir(client, a)); err != nil {
				return err
			}
		}
		for n, batch := range batches(units) {
			if err := r.stream(client, n, batch); err != nil {
				return err
			}
		}
	} else {
		for _, a := range actions {
			if a.want.kind != dir {
				large = append(large, a)
			} else if err := r.over(a, r.mkdir(client, a)); err != nil {
				return err
			}
		}
	}
	// Small ones are many at once; a large one fills the connection by itself.
	var few, many []*action
	for _, a := range large {
		if a.want.size > small {
			few = append(few, a)
		} else {
			many = append(many, a)
		}
	}
	if err := r.each(many, func(a *action) error { return r.sendOne(client, a) }); err != nil {
		return err
	}
	for _, a := range few {
		if err := r.over(a, r.sendOne(client, a)); err != nil {
			return err
		}
	}
	return r.sweep(client)
}

// sweep removes parts of files that are not wanted any more.
func (r *run) sweep(client *sftp.Client) error {
	infos, err := client.ReadDir(r.guest.path(guestDir))
	if err != nil {
		return err
	}
	for _, info := range infos {
		if strings.HasPrefix(info.Name(), "part-") && len(r.problems) == 0 {
			if err := client.Remove(r.guest.own(info.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// packed is an action whose entry was sent, and the entry as it was then.
type packed struct {
	action *action
	entry  *entry
}

// units sorts what is to be sent: whole new directories, single files and
// links, directories to make in place since they are too much for one unit,
// and large files. actions are in order, directories first.
func (r *run) units(actions []*action) (units []*unit, dirs, large []*action) {
	below := map[string][]*action{}
	isNew := map[string]bool{}
	var tops []*action
	for _, a := range actions {
		d := parent(a.path)
		if isNew[d] {
			below[d] = append(below[d], a)
		} else {
			tops = append(tops, a)
		}
		if a.want.kind == dir {
			isNew[a.path] = true
		}
	}
	var add func(a *action)
	add = func(a *action) {
		if a.isLarge() {
			large = append(large, a)
			return
		}
		u := &unit{top: a}
		var gather func(a *action)
		gather = func(a *action) {
			if a != u.top && !a.isLarge() {
				u.rest = append(u.rest, a)
			}
			u.entries++
			if a.want.kind == file && a.want.size <= small {
				u.bytes += a.want.size
			}
			for _, c := range below[a.path] {
				gather(c)
			}
		}
		gather(a)
		if a.want.kind == dir && (u.entries > batchEntries || u.bytes > batchBytes) {
			dirs = append(dirs, a)
			for _, c := range below[a.path] {
				add(c)
			}
			return
		}
		units = append(units, u)
		var after func(a *action)
		after = func(a *action) {
			if a.isLarge() {
				large = append(large, a)
			}
			for _, c := range below[a.path] {
				after(c)
			}
		}
		after(a)
	}
	for _, a := range tops {
		add(a)
	}
	return units, dirs, large
}

// isLarge reports whether the action is about a file that is no part of a stream.
func (a *action) isLarge() bool { return a.want.kind == file && a.want.size > small }

// batches puts units together as far as the bounds allow.
func batches(units []*unit) [][]*unit {
	var out [][]*unit
	entries, bytes := 0, int64(0)
	for _, u := range units {
		if len(out) == 0 || entries+u.entries > batchEntries || bytes+u.bytes > batchBytes {
			out = append(out, nil)
			entries, bytes = 0, 0
		}
		entries, bytes = entries+u.entries, bytes+u.bytes
		out[len(out)-1] = append(out[len(out)-1], u)
	}
	return out
}

// mkdir makes a directory in its place. It is writable until all is in it.
func (r *run) mkdir(client *sftp.Client, a *action) error {
	full := r.guest.path(a.path)
	err := client.Mkdir(full)
	if err != nil {
		// It may have come meanwhile.
		switch info, serr := client.Lstat(full); {
		case serr != nil:
			return sshclient.WriteFailure(client, full, err)
		case !info.IsDir():
			return errChanged
		}
	}
	if err := client.Chmod(full, os.FileMode(a.want.mode|0o700)); err != nil {
		return sshclient.WriteFailure(client, full, err)
	}
	r.arrived(a, a.want)
	return nil
}

// arrived notes what is in its place in the guest. A directory that one could
// not write to gets its own permissions in the next run, with all in it.
func (r *run) arrived(a *action, host *entry) {
	guest := *host
	guest.ctime = 0
	if guest.kind == dir {
		guest.mode |= 0o700
	}
	r.did(a, &pair{*host, guest})
	if host.kind == file {
		r.sent()
	}
}

const stageScript = `cd -- "$1" && mkdir -p "$2" && cd "$2" && exec tar -x -p -f -`

// stream sends a batch through the guest's tar and puts its units in place.
func (r *run) stream(client *sftp.Client, n int, batch []*unit) error {
	stage := "stage-" + strconv.Itoa(n)
	units := map[*action]*unit{}
	var tops []*action
	for i, u := range batch {
		u.stage = strconv.Itoa(i)
		units[u.top] = u
		tops = append(tops, u.top)
	}
	pr, pw := io.Pipe()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	packing := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(pw, 256<<10)
		err := r.pack(w, batch)
		if err == nil {
			err = w.Flush()
		}
		_ = pw.CloseWithError(err) // it never fails
		if err != nil {
			cancel()
		}
		packing <- err
	}()
	err := r.guest.run(ctx, pr, nil, stageScript, r.guest.path(guestDir), stage)
	_ = pr.CloseWithError(errUnpacked) // likewise
	if perr := <-packing; perr != nil && !errors.Is(perr, errUnpacked) {
		err = perr
	}
	if err != nil {
		return r.streamError(err)
	}
	err = r.each(tops, func(a *action) error {
		u := units[a]
		if len(u.packed) == 0 {
			return nil // it could not be read
		}
		if err := r.place(client, r.guest.own(stage+"/"+u.stage), a); err != nil {
			return err
		}
		for _, p := range u.packed {
			r.arrived(p.action, p.entry)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// What could not be put in place goes with the next run.
	err = client.RemoveDirectory(r.guest.own(stage))
	if _, refused := errors.AsType[*sftp.StatusError](err); refused {
		return nil
	}
	return err
}

var errUnpacked = errors.New("the guest's tar has ended")

// streamError is what ended a stream: nothing of it is in place.
func (r *run) streamError(err error) error {
	if failed, ok := errors.AsType[*scriptError](err); ok {
		return fmt.Errorf("unpack files in %s: %w", r.guest.root, failed)
	}
	return r.fault("a batch of files", err)
}

// place puts what is whole in its place. What nobody has seen there yet must
// not be there now; what is replaced is as it was listed, where the guest's
// changes count.
func (r *run) place(client *sftp.Client, from string, a *action) error {
	to := r.guest.path(a.path)
	replaces := !r.cfg.Both || a.has != nil
	var err error
	switch {
	case !replaces:
		err = client.Rename(from, to)
	case r.cfg.Both:
		if err := r.guest.unchanged(client, a.path, a.has); err != nil {
			return err
		}
		err = client.PosixRename(from, to)
	default:
		err = client.PosixRename(from, to)
	}
	if !sshclient.Failed(err) {
		return err
	}
	if info, lerr := client.Lstat(to); lerr == nil && (!replaces || info.IsDir()) {
		return errChanged // it has come meanwhile
	}
	there, terr := client.StatVFS(path.Dir(to))
	here, herr := client.StatVFS(path.Dir(from))
	if terr == nil && herr == nil && there.Fsid != here.Fsid {
		return errMounted // where nothing can be renamed to
	}
	return sshclient.WriteFailure(client, to, err)
}

// pack writes the batch as an archive of directories named for their units. A
// file that cannot be read is left out.
func (r *run) pack(w io.Writer, batch []*unit) error {
	archive := tar.NewWriter(w)
	buf := make([]byte, small+1)
	for _, u := range batch {
		for _, a := range append([]*action{u.top}, u.rest...) {
			name := u.stage + strings.TrimPrefix(a.path, u.top.path)
			e, data, err := r.host.read(a, buf)
			if err == nil {
				if err := archive.WriteHeader(e.header(name)); err != nil {
					return err
				}
				if _, err := archive.Write(data); err != nil {
					return err
				}
				r.bytes.Add(int64(len(data)))
				r.progress()
				u.packed = append(u.packed, packed{a, e})
				continue
			}
			if err := r.over(a, err); err != nil {
				return err
			}
			if a == u.top {
				break
			}
		}
	}
	return archive.Close()
}

// header describes an entry to the guest's tar. What is no file is made now: with
// no time it were of 1970, which not every program takes (zip begins with 1980).
// Fractions would cost each a record of its own.
func (e *entry) header(name string) *tar.Header {
	h := &tar.Header{Name: name, Mode: int64(e.mode), ModTime: time.Now().Truncate(time.Second), Format: tar.FormatPAX}
	switch e.kind {
	case dir:
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", int64(e.mode|0o700)
	case symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.target
	case file:
		h.Typeflag, h.Size, h.ModTime = tar.TypeReg, e.size, time.Unix(0, e.mtime)
	}
	return h
}

// read returns a small file as it is now, in buf, and what else is wanted as it
// was scanned.
func (h *host) read(a *action, buf []byte) (*entry, []byte, error) {
	if a.want.kind != file {
		return a.want, nil, nil
	}
	f, err := h.root.Open(a.path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	was, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	n, err := io.ReadFull(f, buf)
	if err == nil || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, nil, errors.Join(err, errChanged)
	}
	e, err := h.stable(f, a.path, was)
	if err != nil {
		return nil, nil, err
	}
	if int64(n) != e.size {
		return nil, nil, errChanged
	}
	return e, buf[:n], nil
}

// stable makes sure that the open file did not change since was, and is the
// one at p.
func (h *host) stable(f *os.File, p string, was fs.FileInfo) (*entry, error) {
	now := time.Now()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	before, err := h.entry(p, was)
	if err != nil {
		return nil, err
	}
	e, err := h.entry(p, info)
	if err != nil {
		return nil, err
	}
	if e.kind != file || !e.same(before) {
		return nil, errChanged
	}
	e.doubt(now)
	return e, nil
}

// sendOne sends a file or a link by SFTP. A large file's part that an earlier
// run left is gone on with.
func (r *run) sendOne(client *sftp.Client, a *action) error {
	if a.want.kind == symlink {
		from := r.guest.own("part-" + partName(a.path, a.want))
		err := client.Symlink(a.want.target, from)
		if err != nil {
			_ = client.Remove(from) // the second attempt tells
			err = sshclient.WriteFailure(client, from, client.Symlink(a.want.target, from))
		}
		if err == nil {
			err = r.place(client, from, a)
		}
		if err == nil {
			r.arrived(a, a.want)
		}
		return err
	}
	f, err := r.host.root.Open(a.path)
	if err != nil {
		return err
	}
	defer f.Close()
	was, err := f.Stat()
	if err != nil {
		return err
	}
	want, err := r.host.entry(a.path, was)
	if err != nil {
		return err
	}
	if want.kind != file {
		return errChanged
	}
	part := r.guest.own("part-" + partName(a.path, want))
	if err := r.upload(client, f, part, want); err != nil {
		return sshclient.WriteFailure(client, part, err)
	}
	e, err := r.host.stable(f, a.path, was)
	if err != nil {
		return errors.Join(err, client.Remove(part))
	}
	if err := r.place(client, part, a); err != nil {
		return err
	}
	// SFTP of version 3 has no fractions.
	guest := *e
	guest.mtime, guest.ctime = wholeSeconds(e.mtime), 0
	r.did(a, &pair{*e, guest})
	r.sent()
	return nil
}

// partName is the same for the same content of the same file only.
func partName(p string, e *entry) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d", p, e.size, e.mtime))
	return hex.EncodeToString(sum[:12])
}

// upload writes f to the part, from where it ends on.
func (r *run) upload(client *sftp.Client, f *os.File, part string, want *entry) error {
	offset, err := r.uploaded(client, f, part, want.size)
	if err != nil {
		return err
	}
	flags := os.O_WRONLY | os.O_CREATE
	if offset == 0 {
		flags |= os.O_TRUNC
	}
	to, err := client.OpenFile(part, flags)
	if err != nil {
		return err
	}
	r.bytes.Add(offset)
	_, err = to.Seek(offset, io.SeekStart)
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err == nil {
		_, err = to.ReadFromWithConcurrency(counted{io.LimitReader(f, want.size-offset), r}, requests)
	}
	if err == nil {
		err = to.Chmod(os.FileMode(want.mode))
	}
	err = errors.Join(err, to.Close())
	if err != nil {
		return err
	}
	at := time.Unix(0, want.mtime)
	if err := client.Chtimes(part, at, at); err != nil {
		return err
	}
	info, err := client.Lstat(part)
	if err == nil && info.Size() != want.size {
		err = errChanged
	}
	return err
}

// uploaded is how much of f is in the part already, which the guest proves by
// its hash. Writes that were on their way when the connection broke may have
// left a gap before the end.
func (r *run) uploaded(client *sftp.Client, f io.Reader, part string, size int64) (int64, error) {
	info, err := client.Lstat(part)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n := min(info.Size(), size) - 2*requests*packet
	if n <= 0 || !r.guest.shell || !info.Mode().IsRegular() {
		return 0, nil
	}
	hashed := make(chan string, 1)
	go func() {
		sum := sha256.New()
		_, err := io.CopyN(sum, f, n)
		if err != nil {
			hashed <- err.Error() // which is nobody's hash
			return
		}
		hashed <- hex.EncodeToString(sum.Sum(nil))
	}()
	there, err := r.guest.hash(r.ctx, part, n)
	if here := <-hashed; err != nil || here != there {
		return 0, err
	}
	return n, nil
}

// hash is the SHA-256 of a file's first n bytes, or "" when the guest cannot tell.
func (g *guest) hash(ctx context.Context, full string, n int64) (string, error) {
	var out strings.Builder
	err := g.run(ctx, nil, &limited{w: &out, n: 64}, `head -c "$2" -- "$1" | sha256sum`, full, strconv.FormatInt(n, 10))
	if _, failed := errors.AsType[*scriptError](err); failed {
		return "", nil
	}
	return out.String(), err
}
