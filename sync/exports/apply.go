package exports

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/hostctl/hostctl/internal/durable"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/run"
)

// tellTimeout bounds the server's own programs. exportfs resolves the names of
// hosts that are in other people's lines.
const tellTimeout = time.Minute

// Apply makes the server export what r asks for, and nothing else of the project's.
// It needs root, and takes nothing that the owner says on trust: folders must be
// the owner's. When the server does not take what was written, everything is as it
// was before. Errors are those of [Server.Check], and the server's own.
func (s Server) Apply(ctx context.Context, r Request, o Owner) (Found, error) {
	if err := r.check(s.System); err != nil {
		return Found{}, err
	}
	if s.System != linux && s.System != darwin {
		_, err := s.Program()
		return Found{}, err
	}
	if err := s.folders(r, o); err != nil {
		return Found{}, err
	}
	lock := flock.New(s.at(lockFile))
	if ok, err := lock.TryLockContext(ctx, 50*time.Millisecond); !ok || err != nil {
		return Found{}, fmt.Errorf("wait for another hostctl: %w", err)
	}
	found, err := s.apply(ctx, r, o)
	return found, errors.Join(err, lock.Close())
}

func (s Server) apply(ctx context.Context, r Request, o Owner) (Found, error) {
	p, err := s.plan(r, o)
	if err != nil {
		return Found{}, err
	}
	found := Found{Mistakes: p.mistakes}
	program, err := s.Program()
	if err != nil && len(r.Exports) > 0 {
		return found, err
	}
	if missing, _ := s.live(r, o); len(p.changes) == 0 && missing == "" {
		found.Wanted = true
		return found, nil
	}
	if s.System == darwin {
		if err := s.checkExports(ctx, p); err != nil {
			return found, err
		}
	}
	// From here on an interruption must not leave half of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
	defer cancel()
	if len(r.Exports) == 0 && program != "" {
		// First, as the files are all that tells the next one, should this one be
		// killed, that something of the project's is exported.
		if err := s.unexport(ctx, program, p.gone); err != nil {
			return found, err
		}
	}
	for i, c := range p.changes {
		if err := s.write(c.path, c.after); err != nil {
			return found, errors.Join(err, s.undo(p.changes[:i]))
		}
	}
	if program == "" {
		return found, nil // the server is gone, and now its files are
	}
	if p.broken != nil {
		// Reading all anew would end what is exported below that line.
		found.Mistakes = append(found.Mistakes, p.broken)
		return found, nil
	}
	if err := s.tell(ctx, program, r, o); err != nil {
		err = errors.Join(err, s.undo(p.changes))
		if len(p.changes) > 0 {
			_ = s.tell(ctx, program, Request{Project: r.Project}, o) // what is wrong is said already
		}
		return found, err
	}
	return found, nil
}

// folders makes sure that what is exported is the owner's. What is not there, what
// the owner may not see and what is somebody else's look the same: nobody finds out
// about other people's files by asking root.
func (s Server) folders(r Request, o Owner) error {
	for _, e := range r.Exports {
		path, err := s.Resolve(e.Path)
		if err != nil || path != e.Path || !ownedBy(path, o.UID) {
			return hint.Wrap(fmt.Errorf("%s is not a folder of yours (uid %d)", e.Path, o.UID),
				`share a folder that you own, or use server = "embedded", which needs no rights but yours`)
		}
	}
	return nil
}

// tell makes the server read its tables, and looks whether it exports what r wants.
func (s Server) tell(ctx context.Context, program string, r Request, o Owner) error {
	if s.System == darwin {
		return s.tellNfsd(ctx, program, r)
	}
	_, err := s.runner().Run(ctx, program, "-ra")
	missing, known := s.live(r, o)
	if missing == "" && (known || err == nil) {
		return nil // what it complains about is not ours
	}
	if failed, ok := errors.AsType[*run.Error](err); ok {
		if m := complaint(failed.Stderr, "/hostctl-"+r.Project+".exports"); m != nil {
			return m
		}
	}
	if missing == "" {
		return err
	}
	return errors.Join(fmt.Errorf("the server does not export %s", missing), err)
}

// unexport ends exports one by one, those that there are: exportfs fails for others.
func (s Server) unexport(ctx context.Context, program string, gone []entry) error {
	live, known := s.exported()
	var errs []error
	for _, e := range gone {
		for _, c := range e.clients {
			if known && !slices.ContainsFunc(live, func(have entry) bool { return have.exports(e.path, c.name) }) {
				continue
			}
			name := c.name
			if addr, bits, _ := strings.Cut(name, "/"); strings.Contains(addr, ":") {
				name = "[" + addr + "]" // exportfs(8)
				if bits != "" {
					name += "/" + bits
				}
			}
			_, err := s.runner().Run(ctx, program, "-u", name+":"+e.path)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// tellNfsd has nfsd, and launchd, take up the file.
func (s Server) tellNfsd(ctx context.Context, program string, r Request) error {
	if len(r.Exports) > 0 {
		// Does nothing when it is enabled.
		if _, err := s.runner().Run(ctx, program, "enable"); err != nil {
			return err
		}
	}
	_, err := s.runner().Run(ctx, program, "update")
	if len(r.Exports) == 0 && s.Running(ctx) != nil {
		return nil // launchd ends it when there is no file
	}
	return err
}

// checkExports has nfsd judge the file before it is put in place.
func (s Server) checkExports(ctx context.Context, p *plan) error {
	for _, c := range p.changes {
		if c.after == nil {
			continue
		}
		if c.before != nil {
			if _, err := s.runner().Run(ctx, nfsd, "-F", s.at(c.path), "checkexports"); err != nil {
				return hint.Wrap(judged(err, c.path), "mend that first: hostctl leaves other people's lines alone")
			}
		}
		candidate, err := s.prepare(c.path, c.after)
		if err != nil {
			return err
		}
		_, err = s.runner().Run(ctx, nfsd, "-F", candidate, "checkexports")
		if err := errors.Join(os.Remove(candidate), judged(err, c.path)); err != nil {
			return err
		}
	}
	return nil
}

// judged turns what nfsd says into a mistake of the file it was about.
func judged(err error, file string) error {
	failed, ok := errors.AsType[*run.Error](err)
	if !ok {
		return err
	}
	if m := complaint(failed.Stderr, ""); m != nil {
		m.File = file
		return m
	}
	return fmt.Errorf("%s: %w", file, err)
}

// complaintLine is how both programs name a line: "exportfs: FILE:3: ...",
// "exportfs: FILE: 3: ...", and "exports:3: ...".
var complaintLine = regexp.MustCompile(`^(?:\w+: )?([^ :]+):\s?(\d+):?\s+(.*)$`)

// complaint finds the first line of what a program said that is about a file whose
// path ends so.
func complaint(said, file string) *Mistake {
	for line := range strings.Lines(said) {
		m := complaintLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || !strings.HasSuffix(m[1], file) {
			continue
		}
		if n, err := strconv.Atoi(m[2]); err == nil {
			return &Mistake{File: m[1], Line: n, What: m[3]}
		}
	}
	return nil
}

// undo puts back what was there before.
func (s Server) undo(changes []change) error {
	var errs []error
	for _, c := range changes {
		if err := s.write(c.path, c.before); err != nil {
			errs = append(errs, fmt.Errorf("put %s back: %w", c.path, err))
		}
	}
	return errors.Join(errs...)
}

// write puts a file in place, whole; without data it removes it.
func (s Server) write(path string, data []byte) error {
	if data == nil {
		if err := os.Remove(s.at(path)); err != nil {
			return err
		}
		return durable.SyncDir(filepath.Dir(s.at(path)))
	}
	from, err := s.prepare(path, data)
	if err != nil {
		return err
	}
	return durable.Replace(from, target(s.at(path)))
}

// target is the file that a link leads to: links are kept.
func target(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// prepare writes data beside the file at path, with that file's mode and owner, and
// returns its name. It is the same each time, so that nothing is left of a run that
// was killed, and one that exportfs does not look at.
func (s Server) prepare(path string, data []byte) (string, error) {
	to := target(s.at(path))
	from := filepath.Join(filepath.Dir(to), ".hostctl."+filepath.Base(to))
	if err := os.RemoveAll(from); err != nil {
		return "", err
	}
	f, err := os.OpenFile(from, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = likeBefore(f, to)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(from))
	}
	return from, nil
}

// likeBefore gives f the mode and owner of the file at path; everybody may read a
// new one.
func likeBefore(f *os.File, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return f.Chmod(0o644)
	}
	return errors.Join(chownLike(f, info), f.Chmod(info.Mode().Perm()))
}
