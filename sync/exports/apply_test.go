package exports

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/golden"
	"github.com/hostctl/hostctl/internal/run"
)

// host is a host in a folder, whose server is played.
type host struct {
	Server
	t     *testing.T
	owner Owner
	runs  []string
	// refuse makes the played server complain about the file that it is shown.
	refuse func(text string) string
}

func newHost(t *testing.T, system string) *host {
	t.Helper()
	h := &host{t: t, owner: Owner{os.Getuid(), os.Getgid()}}
	h.Server = Server{System: system, Root: t.TempDir(), Runner: h}
	for _, dir := range []string{"/etc", "/var/run", "/var/lib/nfs", "/sbin", "/usr/sbin"} {
		if err := os.MkdirAll(h.at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{nfsd, exportfs[0]} {
		h.put(p, "")
	}
	return h
}

func (h *host) put(path, text string) {
	h.t.Helper()
	if err := os.MkdirAll(filepath.Dir(h.at(path)), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.at(path), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) get(path string) string {
	h.t.Helper()
	data, err := os.ReadFile(h.at(path))
	if err != nil {
		return "absent"
	}
	return string(data)
}

// Run plays exportfs and nfsd.
func (h *host) Run(_ context.Context, argv ...string) ([]byte, error) {
	line := strings.ReplaceAll(strings.Join(argv, " "), h.Root, "")
	h.runs = append(h.runs, line)
	refuse := func(file string) error {
		if h.refuse == nil {
			return nil
		}
		data, _ := os.ReadFile(file) // one that is not there is empty
		if what := h.refuse(string(data)); what != "" {
			return &run.Error{Argv: argv, Stderr: what, Err: errors.New("exit status 1")}
		}
		return nil
	}
	if len(argv) == 4 && argv[3] == "checkexports" {
		return nil, refuse(argv[2])
	}
	if argv[1] == "-ra" {
		return nil, refuse(h.at(filepath.Join(tableDir, "hostctl-"+projectOne+".exports")))
	}
	return nil, nil
}

const projectOne = "0123456789ab"

func (h *host) folder(name string) string {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), name)
	if err := os.Mkdir(path, 0o755); err != nil {
		h.t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		h.t.Fatal(err)
	}
	return real
}

func request(clients string, paths ...string) Request {
	r := Request{Project: projectOne}
	for _, p := range paths {
		e := Export{Path: p}
		for c := range strings.FieldsSeq(clients) {
			e.Clients = append(e.Clients, netip.MustParsePrefix(c))
		}
		r.Exports = append(r.Exports, e)
	}
	return r
}

// What is written for each system, as its exports(5) has it.
func TestLines(t *testing.T) {
	t.Parallel()
	r := request("192.168.122.0/24 127.0.0.1/32", "/home/ann/code", "/home/ann/my files/ü")
	r.Exports[1].ReadOnly = true
	r.Exports = append(r.Exports, request("fd00:1::/64 10.1.2.3/32 10.1.2.3/32", "/home/ann/a\"b\\1").Exports...)
	o := Owner{1000, 100}
	golden.Equal(t, "linux.exports.golden", block{projectOne, o.UID, linuxLines(r, o)}.String())
	r.Exports = r.Exports[:2]
	o = Owner{501, 20}
	golden.Equal(t, "macos.exports.golden", block{projectOne, o.UID, darwinLines(r, o)}.String())
}

// A section comes and goes, and every other byte of the file stays.
func TestSection(t *testing.T) {
	t.Parallel()
	for _, system := range []string{linux, darwin} {
		for name, others := range map[string]string{
			"absent": "absent", "empty line": "\n", "some": "# mine\n/srv 10.0.0.1(ro)\n", "no line end": "/srv 10.0.0.1(ro)",
			"comment that goes on": "# \\", "another project": "# hostctl bbbbbbbbbbbb uid 7 begin\n/x 10.0.0.1(ro)\n# hostctl bbbbbbbbbbbb uid 7 end\n/y 10.0.0.1(ro)\n",
		} {
			t.Run(system+" "+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, system)
				if others != "absent" {
					h.put(tableFile, others)
				}
				one, two := h.folder("one"), h.folder("two")
				for _, r := range []Request{request("10.0.0.0/8", one), request("10.0.0.0/8", one, two), request("127.0.0.1/32", two)} {
					if found, err := h.Check(r, h.owner); err != nil || found.Wanted {
						t.Fatalf("%+v %v", found, err)
					}
					if _, err := h.Apply(t.Context(), r, h.owner); err != nil {
						t.Fatal(err)
					}
					ran := len(h.runs)
					if found, err := h.Check(r, h.owner); err != nil || !found.Wanted {
						t.Errorf("%+v %v\n%s", found, err, h.get(tableFile))
					}
					if found, err := h.Apply(t.Context(), r, h.owner); err != nil || !found.Wanted || len(h.runs) != ran {
						t.Errorf("a second time: %+v %v, ran %q", found, err, h.runs[ran:])
					}
					text := h.get(tableFile)
					if others != "absent" && !strings.HasPrefix(text, others) {
						t.Errorf("other people's lines:\n%s", text)
					}
					if n := strings.Count(text, projectOne); n != 2 {
						t.Errorf("%d markers:\n%s", n, text)
					}
				}
				// Somebody writes below it meanwhile.
				if others != "absent" {
					h.put(tableFile, h.get(tableFile)+"/late 10.0.0.2(ro)\n")
				}
				if _, err := h.Apply(t.Context(), request(""), h.owner); err != nil {
					t.Fatal(err)
				}
				want := others
				if others != "absent" {
					if !strings.HasSuffix(want, "\n") {
						want += "\n"
					}
					want += "/late 10.0.0.2(ro)\n"
				}
				if got := h.get(tableFile); got != want {
					t.Errorf("left %q, want %q", got, want)
				}
				leftovers(t, h)
			})
		}
	}
}

// leftovers looks for files that are only there for a moment.
func leftovers(t *testing.T, h *host) {
	t.Helper()
	for _, dir := range []string{"/etc", tableDir} {
		files, _ := os.ReadDir(h.at(dir)) // none, where there is no such folder
		for _, f := range files {
			if strings.HasPrefix(f.Name(), ".") {
				t.Errorf("%s is left", f.Name())
			}
		}
	}
}

// A file of the project's own takes the place of a section when there is a folder
// for it, and goes whole.
func TestOwnFile(t *testing.T) {
	t.Parallel()
	h := newHost(t, linux)
	h.put(tableFile, "/srv 10.0.0.1(ro)\n")
	r := request("10.0.0.0/8", h.folder("code"))
	if _, err := h.Apply(t.Context(), r, h.owner); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(h.get(tableFile), projectOne) {
		t.Fatal("no section")
	}
	h.put(filepath.Join(tableDir, "other.exports"), "/x 10.0.0.1(ro)\n")
	if _, err := h.Apply(t.Context(), r, h.owner); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(tableDir, "hostctl-"+projectOne+".exports")
	if got := h.get(tableFile); got != "/srv 10.0.0.1(ro)\n" {
		t.Errorf("the section is still there:\n%s", got)
	}
	if want := (block{projectOne, h.owner.UID, linuxLines(r, h.owner)}).String(); h.get(own) != want {
		t.Errorf("%s", h.get(own))
	}
	info, err := os.Stat(h.at(own))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v %v", info, err)
	}
	if _, err := h.Apply(t.Context(), request(""), h.owner); err != nil || h.get(own) != "absent" {
		t.Errorf("%v: %s", err, h.get(own))
	}
	if got := h.get(filepath.Join(tableDir, "other.exports")); got != "/x 10.0.0.1(ro)\n" {
		t.Errorf("the other's: %q", got)
	}
	leftovers(t, h)
}

// Where other people's files are wrong in a way that exporting anew would make
// worse, or the project's own were changed by hand, nothing is written.
func TestRefused(t *testing.T) {
	t.Parallel()
	own := "/etc/exports.d/hostctl-" + projectOne + ".exports"
	for name, c := range map[string]struct {
		file, text string // FOLDER stands for the share's
		want       string
	}{
		"option":          {tableFile, "/a 10.0.0.1(ro)\n/b 10.0.0.1(rx)\n", `/etc/exports:2: unknown option "rx"`},
		"other file":      {"/etc/exports.d/zz.exports", "\"/a 10.0.0.1(ro)\n", "/etc/exports.d/zz.exports:1: a quote is not closed"},
		"exported":        {"/etc/exports.d/zz.exports", "\nFOLDER 10.0.0.0/8(ro)\n", "/etc/exports.d/zz.exports:2: FOLDER is exported to 10.0.0.0/8 already, with other options"},
		"no end":          {tableFile, "/a 10.0.0.1(ro)\n# hostctl " + projectOne + " uid 0 begin\n", "/etc/exports:2: hostctl's section " + projectOne + " does not end"},
		"no begin":        {tableFile, "# hostctl " + projectOne + " uid 0 end\n", "/etc/exports:1: hostctl's section " + projectOne + " ends without having begun"},
		"nested":          {tableFile, "# hostctl " + projectOne + " uid 0 begin\n# hostctl bbbbbbbbbbbb uid 0 begin\n", "/etc/exports:2: hostctl's section bbbbbbbbbbbb begins inside another"},
		"twice":           {tableFile, strings.Repeat("# hostctl "+projectOne+" uid 0 begin\n# hostctl "+projectOne+" uid 0 end\n", 2), "/etc/exports:4: hostctl's section " + projectOne + " is there twice"},
		"not hostctl's":   {own, "/a 10.0.0.1(ro)\n", own + " is there and hostctl has not written it"},
		"somebody else's": {own, "# hostctl " + projectOne + " uid 4711 begin\n# hostctl " + projectOne + " uid 4711 end\n", own + ":1: these are the exports of the user with uid 4711, and not yours"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, linux)
			h.owner.UID = max(h.owner.UID, 1)
			code := h.folder("code")
			if os.Getuid() == 0 {
				if err := os.Chown(code, 1, 1); err != nil {
					t.Fatal(err)
				}
			}
			h.put("/etc/exports.d/mine.exports", "")
			text := strings.ReplaceAll(c.text, "FOLDER", code)
			h.put(c.file, text)
			r := request("10.0.0.0/8", code)
			want := strings.ReplaceAll(c.want, "FOLDER", code)
			_, err := h.Apply(t.Context(), r, h.owner)
			if err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
			if _, err := h.Check(r, h.owner); err == nil || err.Error() != want {
				t.Errorf("beforehand: %v", err)
			}
			if h.get(c.file) != text || c.file != own && h.get(own) != "absent" || len(h.runs) > 0 {
				t.Errorf("something was done: %q\n%s", h.runs, h.get(own))
			}
			leftovers(t, h)
		})
	}
}

// Mistakes that do nobody harm are told, and keep nothing from working.
func TestHarmlessMistakes(t *testing.T) {
	t.Parallel()
	h := newHost(t, linux)
	h.put(tableFile, "/a 10.0.0.1 (rw)\nb 10.0.0.1(ro)\n")
	for range 2 {
		found, err := h.Apply(t.Context(), request("10.0.0.0/8", h.folder("code")), h.owner)
		if err != nil || len(found.Mistakes) != 2 || found.Mistakes[1].Error() != `/etc/exports:2: "b" is not an absolute path` {
			t.Errorf("%v %v", found.Mistakes, err)
		}
	}
}

// When the server does not take what was written, all is as it was before.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	own := "/etc/exports.d/hostctl-" + projectOne + ".exports"
	h := newHost(t, linux)
	h.put("/etc/exports.d/zz.exports", "")
	h.refuse = func(text string) string {
		if strings.Contains(text, "bad") {
			return "exportfs: nonsense before\nexportfs: " + own + ":2: syntax error: bad option list"
		}
		return ""
	}
	good, bad := h.folder("good"), h.folder("bad")
	for _, before := range []string{"absent", "good"} {
		if before == "good" {
			if _, err := h.Apply(t.Context(), request("10.0.0.0/8", good), h.owner); err != nil {
				t.Fatal(err)
			}
			before = h.get(own)
		}
		_, err := h.Apply(t.Context(), request("10.0.0.0/8", good, bad), h.owner)
		if m, ok := errors.AsType[*Mistake](err); !ok || m.Error() != own+":2: syntax error: bad option list" {
			t.Errorf("%v", err)
		}
		if got := h.get(own); got != before {
			t.Errorf("%s is left, want %s", got, before)
		}
		leftovers(t, h)
	}
	// It complains, but exports what is ours: it is about somebody else's.
	h.refuse = func(string) string { return "exportfs: Failed to stat /gone: No such file or directory" }
	h.put(liveTable, strings.Join(linuxLines(request("10.0.0.0/8", good, bad), h.owner), "\n"))
	if _, err := h.Apply(t.Context(), request("10.0.0.0/8", good, bad), h.owner); err != nil {
		t.Error(err)
	}
	// It does not complain, and does not export either.
	h.refuse = nil
	h.put(liveTable, "")
	before := h.get(own)
	_, err := h.Apply(t.Context(), request("10.0.0.0/8", bad), h.owner)
	if want := fmt.Sprintf("the server does not export %s to 10.0.0.0/8", bad); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if h.get(own) != before {
		t.Errorf("%s is left", h.get(own))
	}
}

// On macOS nfsd judges the file before it is in place, and is made to read it.
func TestNfsd(t *testing.T) {
	t.Parallel()
	h := newHost(t, darwin)
	r := request("192.168.64.0/24", h.folder("code"))
	if _, err := h.Apply(t.Context(), r, h.owner); err != nil {
		t.Fatal(err)
	}
	want := []string{"/sbin/nfsd -F /etc/.hostctl.exports checkexports", "/sbin/nfsd enable", "/sbin/nfsd update"}
	if !slices.Equal(h.runs, want) {
		t.Errorf("%q, want %q", h.runs, want)
	}
	before := h.get(tableFile)

	h.refuse = func(text string) string {
		if strings.Contains(text, "two") {
			return "exports:3: export host 192.168.64.0 conflicts"
		}
		return ""
	}
	_, err := h.Apply(t.Context(), request("192.168.64.0/24", h.folder("two")), h.owner)
	if err == nil || err.Error() != "/etc/exports:3: export host 192.168.64.0 conflicts" || h.get(tableFile) != before {
		t.Errorf("%v\n%s", err, h.get(tableFile))
	}
	leftovers(t, h)

	// Somebody else's is wrong already.
	h.runs = nil
	h.put(tableFile, "/two\n"+before)
	_, err = h.Apply(t.Context(), request("192.168.64.0/24", h.folder("three")), h.owner)
	if m, ok := errors.AsType[*Mistake](err); !ok || m.Line != 3 || h.get(tableFile) != "/two\n"+before || len(h.runs) != 1 {
		t.Errorf("%v %q", err, h.runs)
	}

	for _, c := range []struct {
		r    Request
		want string
	}{
		{request("192.168.64.0/24", "/Users/a/b\"c"), "macOS's exports cannot have a quote"},
		{request("fd00::/64", "/Users/a"), "exports to IPv6 addresses are not written on macOS"},
	} {
		if _, err := h.Check(c.r, h.owner); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// Where there is no server of this kind, there is nothing to be removed either.
func TestNoServer(t *testing.T) {
	t.Parallel()
	s := Server{System: "windows"}
	if found, err := s.Check(request(""), Owner{}); err != nil || !found.Wanted {
		t.Errorf("%+v %v", found, err)
	}
	if _, err := s.Check(request("127.0.0.1/32", "/c/code"), Owner{}); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	h := newHost(t, linux)
	r := request("127.0.0.1/32", h.folder("code"))
	if _, err := h.Apply(t.Context(), r, h.owner); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(h.at(exportfs[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Check(request("127.0.0.1/32", h.folder("more")), h.owner); !errors.Is(err, ErrNotInstalled) {
		t.Error(err)
	}
	// It was uninstalled: what is left goes all the same.
	if _, err := h.Apply(t.Context(), request(""), h.owner); err != nil || h.get(tableFile) != "absent" {
		t.Errorf("%v %s", err, h.get(tableFile))
	}
}
