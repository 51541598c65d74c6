package exports

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/run"
)

// The systems whose server is known, as [runtime.GOOS] has them.
const (
	linux  = "linux"
	darwin = "darwin"
)

// Server is the NFS server of this system.
type Server struct {
	System string     // runtime.GOOS
	Root   string     // what its files lie below; "" but in tests
	Runner run.Runner // nil executes for real
}

// Files and programs of the two systems.
const (
	tableFile = "/etc/exports"
	tableDir  = "/etc/exports.d" // Linux; files that end in .exports
	liveTable = "/var/lib/nfs/etab"
	lockFile  = "/var/run/hostctl-exports.lock"
	nfsd      = "/sbin/nfsd" // macOS
)

// exportfs is where the distributions have it.
var exportfs = []string{"/usr/sbin/exportfs", "/sbin/exportfs", "/usr/bin/exportfs", "/run/current-system/sw/bin/exportfs"}

func (s Server) at(path string) string { return filepath.Join(s.Root, path) }

func (s Server) runner() run.Runner {
	if s.Runner == nil {
		return run.Exec{}
	}
	return s.Runner
}

// Program returns the program that the server is told by, or [ErrNotInstalled]
// with a hint, or [ErrUnsupported].
func (s Server) Program() (string, error) {
	switch s.System {
	case linux:
		for _, p := range exportfs {
			if _, err := os.Stat(s.at(p)); err == nil {
				return p, nil
			}
		}
		return "", hint.Wrap(ErrNotInstalled, "install it (Debian: sudo apt-get install nfs-kernel-server), or use server = \"embedded\"")
	case darwin:
		if _, err := os.Stat(s.at(nfsd)); err != nil {
			return "", ErrNotInstalled
		}
		return nfsd, nil
	}
	return "", hint.Wrap(ErrUnsupported, `use server = "embedded"`)
}

// Running asks whether the server answers, on loopback: [ErrNotRunning], with a
// hint, when nobody listens there.
func (s Server) Running(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(Port)))
	if err == nil {
		return conn.Close()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	how := "sudo systemctl enable --now nfs-server"
	if s.System == darwin {
		how = "sudo nfsd enable"
	}
	return hint.Wrap(ErrNotRunning, "start it: %s", how)
}

// Resolve returns the name by which the server has to be told of a folder, which
// must be there: without links; on macOS, as its data volume has it (10.15 and newer
// export nothing by the short names that firmlinks give).
func (s Server) Resolve(path string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fmt.Errorf("%s is no folder", path)
	case s.System != darwin:
		return path, nil
	}
	const volume = "/System/Volumes/Data"
	if long := volume + path; !strings.HasPrefix(path, volume+"/") {
		if there, err := os.Stat(s.at(long)); err == nil && os.SameFile(info, there) {
			return long, nil
		}
	}
	return path, nil
}

// ownFile is the project's own where there is a directory of tables.
func ownFile(project string) string { return filepath.Join(tableDir, "hostctl-"+project+".exports") }

// mentions reports whether something of the project's may be in the files.
func (s Server) mentions(project string) bool {
	if _, err := os.Lstat(s.at(ownFile(project))); err == nil {
		return true
	}
	data, err := os.ReadFile(s.at(tableFile))
	return err == nil && bytes.Contains(data, []byte("# hostctl "+project+" "))
}

// table is a file of exports.
type table struct {
	path string // without Root
	data []byte // nil where there is no such file
	own  *section
}

// tables reads all of them, the main one first. Only the main one and the
// project's own can have a section.
func (s Server) tables(project string) (all []table, own string, err error) {
	paths := []string{tableFile}
	own = tableFile
	if s.System == linux {
		if files, err := os.ReadDir(s.at(tableDir)); err == nil {
			own = ownFile(project)
			for _, f := range files {
				if strings.HasSuffix(f.Name(), ".exports") && !strings.HasPrefix(f.Name(), ".") {
					paths = append(paths, filepath.Join(tableDir, f.Name()))
				}
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
	}
	if !slices.Contains(paths, own) {
		paths = append(paths, own)
	}
	for _, path := range paths {
		t := table{path: path}
		t.data, err = os.ReadFile(s.at(path))
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, fs.ErrPermission) && path != own:
			continue // root will look into it
		default:
			return nil, "", err
		}
		if path == tableFile || path == own {
			var m *Mistake
			if t.own, m = findSection(path, t.data, project); m != nil {
				return nil, "", hint.Wrap(m, "hostctl does not guess which lines are its own: mend %s by hand", path)
			}
		}
		all = append(all, t)
	}
	return all, own, nil
}

// plan is what there is to change.
type plan struct {
	project string
	changes []change
	// mistakes are other people's, which keep nothing from working.
	mistakes []*Mistake
	// broken is a line of somebody else's at which the server stops reading, where
	// there is only to be less exported than before.
	broken *Mistake
	gone   []entry // what is exported no more, by nobody
}

type change struct {
	path   string // without Root
	before []byte // nil: there is no such file
	after  []byte // nil: there is to be none
}

// plan compares the files with what r wants. It fails with a *[Mistake] when
// applying would not work, or would do harm to other people's exports.
func (s Server) plan(r Request, o Owner) (*plan, error) {
	tables, own, err := s.tables(r.Project)
	if err != nil {
		return nil, err
	}
	b := block{project: r.Project, uid: o.UID}
	if s.System == darwin {
		b.lines = darwinLines(r, o)
	} else {
		b.lines = linuxLines(r, o)
	}
	p := &plan{project: r.Project}
	for _, t := range tables {
		if t.own != nil && t.own.uid != o.UID && o.UID != 0 {
			return nil, fmt.Errorf("%s:%d: these are the exports of the user with uid %d, and not yours", t.path, t.own.line, t.own.uid)
		}
		var after []byte
		switch {
		case t.path == own && own != tableFile: // the file is the project's
			if t.data != nil && t.own == nil {
				return nil, hint.Wrap(fmt.Errorf("%s is there and hostctl has not written it", t.path), "move it away")
			}
			if len(b.lines) > 0 {
				after = []byte(b.String())
			}
		case t.path == own:
			after = withSection(t.data, t.own, b)
		case t.own != nil: // from before there was a directory
			after = withSection(t.data, t.own, block{})
		default:
			after = t.data
		}
		if len(after) == 0 && (t.own != nil || t.data == nil) {
			after = nil // nothing is left but what hostctl has put there
		}
		if (t.data == nil) != (after == nil) || !bytes.Equal(t.data, after) {
			p.changes = append(p.changes, change{path: t.path, before: t.data, after: after})
		}
	}
	if s.System != linux {
		return p, nil // nfsd says itself what is wrong, when it is asked as root
	}
	return p, p.read(tables, r, o)
}

// read looks for mistakes in the tables of Linux: other people's as they are, the
// project's as they will be.
func (p *plan) read(tables []table, r Request, o Owner) error {
	after := map[string][]byte{}
	for _, t := range tables {
		after[t.path] = t.data
	}
	for _, c := range p.changes {
		after[c.path] = c.after
	}
	var stay []entry
	for _, t := range tables {
		own, err := findSection(t.path, after[t.path], p.project)
		if err != nil {
			return err // cannot be: it was well before
		}
		before, mistakes := parseTable(t.path, t.data)
		if t.own != nil {
			p.gone = append(p.gone, slices.DeleteFunc(before, func(e entry) bool { return !t.own.has(t.data, e.line) })...)
		}
		for _, m := range mistakes {
			if m.Stops && len(r.Exports) == 0 {
				p.broken = m
				continue
			}
			if m.Stops {
				return hint.Wrap(m, "mend that line: the server reads no further there, and hostctl leaves other people's lines alone")
			}
			if t.own == nil || m.Line < t.own.line {
				p.mistakes = append(p.mistakes, m)
			}
		}
		entries, mistakes := parseTable(t.path, after[t.path])
		for _, m := range mistakes {
			if m.Stops && p.broken == nil {
				return fmt.Errorf("hostctl would write a line that is wrong: %w", m)
			}
		}
		stay = append(stay, entries...)
		for _, e := range entries {
			if own != nil && own.has(after[t.path], e.line) {
				continue
			}
			if err := conflict(t.path, e, r, o); err != nil {
				return err
			}
		}
	}
	for i, e := range p.gone {
		p.gone[i].clients = slices.DeleteFunc(e.clients, func(c client) bool {
			return slices.ContainsFunc(stay, func(o entry) bool { return o.exports(e.path, c.name) })
		})
	}
	return nil
}

// conflict is somebody else's export of one of the folders to one of the clients:
// the server takes the first of the two and ignores the other.
func conflict(file string, e entry, r Request, o Owner) error {
	for _, want := range r.Exports {
		for _, p := range want.Clients {
			i := slices.IndexFunc(e.clients, func(c client) bool { return c.name == address(p) })
			if want.Path != e.path || i < 0 || agrees(e.clients[i].options, linuxOptions(want, p, o)) {
				continue
			}
			return hint.Wrap(&Mistake{File: file, Line: e.line, What: fmt.Sprintf("%s is exported to %s already, with other options", e.path, address(p))},
				"share another folder, or take that line out")
		}
	}
	return nil
}

// agrees reports whether all that is wanted is among what is.
func agrees(have, want []string) bool {
	return !slices.ContainsFunc(want, func(o string) bool { return !slices.Contains(have, o) })
}

// exported is the table of what Linux's server exports right now. Without such a
// table nothing is known.
func (s Server) exported() (entries []entry, known bool) {
	if s.System != linux {
		return nil, false
	}
	data, err := os.ReadFile(s.at(liveTable))
	if err != nil {
		return nil, false
	}
	entries, _ = parseTable(liveTable, data)
	return entries, true
}

// live looks into the table of what Linux's server exports right now: missing is the
// first of what r wants that is not there. Without such a table nothing is known.
func (s Server) live(r Request, o Owner) (missing string, known bool) {
	entries, known := s.exported()
	if !known {
		return "", false
	}
	for _, e := range r.Exports {
		for _, p := range e.Clients {
			if !slices.ContainsFunc(entries, func(have entry) bool {
				return have.path == e.Path && slices.ContainsFunc(have.clients, func(c client) bool {
					return c.name == address(p) && agrees(c.options, linuxOptions(e, p, o))
				})
			}) {
				return fmt.Sprintf("%s to %s", e.Path, address(p)), true
			}
		}
	}
	return "", true
}

// Found is what [Server.Check] found.
type Found struct {
	// Wanted says that all is as wanted, and Apply would change nothing.
	Wanted bool
	// Mistakes are lines of other people's that are wrong and do no harm here.
	Mistakes []*Mistake
}

// Check compares what the server exports with what r asks for. It needs no
// privileges and changes nothing. A *[Mistake] says that Apply would refuse: the
// line has to be mended first, by whoever wrote it.
func (s Server) Check(r Request, o Owner) (Found, error) {
	if err := r.check(s.System); err != nil {
		return Found{}, err
	}
	if s.System != linux && s.System != darwin {
		if len(r.Exports) == 0 {
			return Found{Wanted: true}, nil
		}
		_, err := s.Program()
		return Found{}, err
	}
	if len(r.Exports) == 0 && !s.mentions(r.Project) {
		return Found{Wanted: true}, nil // whatever else may be wrong in the files
	}
	for _, e := range r.Exports {
		if _, err := s.Resolve(e.Path); err != nil {
			return Found{}, err // says more than root's side may
		}
	}
	if err := s.folders(r, o); err != nil {
		return Found{}, err
	}
	p, err := s.plan(r, o)
	if err != nil {
		return Found{}, err
	}
	if len(p.changes) == 0 {
		missing, _ := s.live(r, o)
		return Found{Wanted: missing == "", Mistakes: p.mistakes}, nil
	}
	_, err = s.Program()
	if len(r.Exports) == 0 {
		err = nil // what is left of a server that was removed is removed, too
	}
	return Found{Mistakes: p.mistakes}, err
}

// Mistakes are the lines that are wrong in the server's tables, whoever wrote them.
func (s Server) Mistakes(ctx context.Context) ([]*Mistake, error) {
	switch s.System {
	case linux:
	case darwin:
		if _, err := os.Stat(s.at(tableFile)); err != nil {
			return nil, nil // none is needed
		}
		_, err := s.runner().Run(ctx, nfsd, "checkexports")
		err = judged(err, tableFile)
		if m, ok := errors.AsType[*Mistake](err); ok {
			m.Stops = true
			return []*Mistake{m}, nil
		}
		return nil, err
	default:
		return nil, nil
	}
	tables, _, err := s.tables("")
	if err != nil {
		return nil, err
	}
	var all []*Mistake
	for _, t := range tables {
		_, mistakes := parseTable(t.path, t.data)
		all = append(all, mistakes...)
	}
	return all, nil
}
