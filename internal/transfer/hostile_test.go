//go:build unix

package transfer_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/transfer"
)

// hostile is a guest that says of its files what it likes.
type hostile struct {
	lists   map[string][]said // by directory
	links   map[string]string // by path
	put     error             // why nothing can be written
	statvfs sftp.StatVFS
}

// said is a file as the guest has it.
type said struct {
	name string
	mode fs.FileMode
}

func (s said) Name() string       { return s.name }
func (s said) Size() int64        { return 4 }
func (s said) Mode() fs.FileMode  { return s.mode }
func (s said) ModTime() time.Time { return time.Unix(1e9, 0) }
func (s said) IsDir() bool        { return s.mode.IsDir() }
func (s said) Sys() any           { return nil }

type listing []said

func (l listing) ListAt(into []os.FileInfo, offset int64) (int, error) {
	n := 0
	for ; n < len(into) && int(offset)+n < len(l); n++ {
		into[n] = l[int(offset)+n]
	}
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}

func (h *hostile) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	switch {
	case r.Method == "List":
		return listing(h.lists[r.Filepath]), nil
	case h.lists[r.Filepath] != nil:
		return listing{{path.Base(r.Filepath), fs.ModeDir | 0o755}}, nil
	}
	for _, f := range h.lists[path.Dir(r.Filepath)] {
		if path.Base(f.name) == path.Base(r.Filepath) {
			return listing{f}, nil
		}
	}
	return nil, fs.ErrNotExist
}

func (h *hostile) Readlink(p string) (string, error) { return h.links[p], nil }

func (h *hostile) Fileread(*sftp.Request) (io.ReaderAt, error) {
	return bytes.NewReader([]byte("evil")), nil
}

type refusing struct{ err error }

func (r refusing) WriteAt([]byte, int64) (int, error) { return 0, r.err }

func (h *hostile) Filewrite(*sftp.Request) (io.WriterAt, error) { return refusing{h.put}, nil }

func (h *hostile) Filecmd(*sftp.Request) error { return nil }

func (h *hostile) StatVFS(*sftp.Request) (*sftp.StatVFS, error) { return &h.statvfs, nil }

// talk returns SFTP to that guest.
func (h *hostile) talk(t *testing.T) *sftp.Client {
	t.Helper()
	ours, theirs := net.Pipe()
	server := sftp.NewRequestServer(theirs, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve() // until the client hangs up
	}()
	c, err := sftp.NewClientPipe(ours, ours, transfer.SFTP()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		server.Close()
		<-ended
	})
	return c
}

// Nothing that a guest says of its files makes a download write outside its
// destination.
func TestHostileGuest(t *testing.T) {
	t.Parallel()
	dir, file, link := fs.ModeDir|0o755, fs.FileMode(0o644), fs.ModeSymlink|0o777
	for _, tt := range []struct {
		name  string
		lists map[string][]said
		links map[string]string
		there map[string]string
		want  string // the error; "": none
		left  map[string]string
	}{
		// The client itself reduces a name to its last part.
		{"up", map[string][]said{"/d": {{"../evil", file}}}, nil, nil, "", map[string]string{"d/evil": "evil"}},
		{"absolute", map[string][]said{"/d": {{"/evil", file}}}, nil, nil, "", map[string]string{"d/evil": "evil"}},
		{"parent", map[string][]said{"/d": {{"..", file}}}, nil, nil, "", map[string]string{"d/": ""}},
		{"zero", map[string][]said{"/d": {{"a\x00b", file}}}, nil, nil, `/d: a file cannot be called "a\x00b"`, map[string]string{}},
		{"a link, then a folder of that name", map[string][]said{"/d": {{"x", link}, {"x", dir}}, "/d/x": {}},
			map[string]string{"/d/x": "OUTSIDE"}, nil, "DEST/d/x is a directory, and /d/x is not", map[string]string{"d/x/": ""}},
		{"a folder where an earlier download left a link", map[string][]said{"/d": {{"x", dir}}, "/d/x": {{"f", file}}}, nil,
			map[string]string{"d/x": "->OUTSIDE"}, "DEST/d/x is there and not a directory, which /d/x is", map[string]string{"d/x": "->OUTSIDE"}},
		{"a file where an earlier download left a link", map[string][]said{"/d": {{"f", file}}}, nil,
			map[string]string{"d/f": "->OUTSIDE/f"}, "", map[string]string{"d/f": "evil"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			outside, dest := t.TempDir(), t.TempDir()
			expand := func(in map[string]string) map[string]string {
				out := map[string]string{}
				for k, v := range in {
					out[k] = strings.ReplaceAll(v, "OUTSIDE", outside)
				}
				return out
			}
			write(t, dest, expand(tt.there))
			c := (&hostile{lists: tt.lists, links: expand(tt.links)}).talk(t)
			_, err := transfer.Download(t.Context(), c, []string{"/d"}, dest, transfer.Options{})
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), dest, "DEST")
			}
			if got != tt.want {
				t.Errorf("error %q, want %q", got, tt.want)
			}
			if left := read(t, outside); len(left) > 0 {
				t.Errorf("outside are %v", left)
			}
			if filepath.Dir(outside) != filepath.Dir(dest) {
				t.Fatal("what is beside the destination is not looked at")
			}
			if beside := read(t, filepath.Dir(dest)); beside["evil"] != "" {
				t.Error("the file is beside the destination")
			}
			if diff := cmp.Diff(expand(tt.left), read(t, dest)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// SFTP has one word for most failures; what is behind it is found out.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		statvfs sftp.StatVFS
		is      error
		want    string
	}{
		{"full", sftp.StatVFS{Frsize: 4096}, sshclient.ErrFull, "/d/a in the guest: no space left on the guest's disk"},
		{"read-only", sftp.StatVFS{Frsize: 4096, Bavail: 1 << 20, Flag: 1}, sshclient.ErrReadOnly, "/d/a in the guest: the guest's file system is mounted read-only"},
		{"anything", sftp.StatVFS{Frsize: 4096, Bavail: 1 << 20}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from := t.TempDir()
			write(t, from, map[string]string{"a": "A"})
			c := (&hostile{lists: map[string][]said{"/d": {}}, put: errors.New("no"), statvfs: tt.statvfs}).talk(t)
			_, err := transfer.Upload(t.Context(), c, []string{from + "/a"}, "/d", transfer.Options{})
			status, ok := errors.AsType[*sftp.StatusError](err)
			switch {
			case tt.is == nil && (!ok || status.FxCode() != sftp.ErrSSHFxFailure):
				t.Errorf("error %v", err)
			case tt.is != nil && (!errors.Is(err, tt.is) || err.Error() != tt.want):
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}
