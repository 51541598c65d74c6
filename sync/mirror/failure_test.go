package mirror

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/sshclient"
)

// Whatever keeps something from being made in the guest is told: SFTP calls all
// of it a failure.
func TestFailures(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write(t, folder, files{"f": "x", "l": "-> f"})
	root, err := os.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	h := &host{root: root, skip: NewMatcher(nil)}
	room := sftp.StatVFS{Frsize: 4096, Bavail: 1 << 20}
	readOnly := sftp.StatVFS{Frsize: 4096, Bavail: 1 << 20, Flag: 1}
	for _, tt := range []struct {
		name  string
		guest failing
		want  error
		of    string // what can end like that
	}{
		{"full", failing{vfs: sftp.StatVFS{Frsize: 4096}}, sshclient.ErrFull, "file link directory place"},
		{"read-only", failing{vfs: readOnly}, sshclient.ErrReadOnly, "file link directory place"},
		{"there by now", failing{vfs: room, there: "/srv/p"}, errChanged, "directory place"},
		{"another file system", failing{vfs: room, mount: 7}, errMounted, "place"},
		{"nobody knows", failing{vfs: room}, nil, "file link directory place"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := tt.guest.serve(t)
			r := &run{cfg: Config{Both: true}, ctx: t.Context(), result: &Result{}, host: h, guest: &guest{root: "/srv"}, pairs: map[string]*pair{}}
			for of, do := range map[string]func() error{
				"file":      func() error { return r.sendOne(client, &action{path: "f", want: &entry{kind: file}}) },
				"link":      func() error { return r.sendOne(client, &action{path: "l", want: &entry{kind: symlink, target: "f"}}) },
				"directory": func() error { return r.mkdir(client, &action{path: "p", want: &entry{kind: dir}}) },
				"place":     func() error { return r.place(client, r.guest.own("part"), &action{path: "p"}) },
			} {
				if !strings.Contains(tt.of, of) {
					continue
				}
				err := do()
				if !errors.Is(err, tt.want) && (tt.want != nil || !sshclient.Failed(err)) {
					t.Errorf("%s: %v, want %v", of, err, tt.want)
				}
				if errors.Is(err, sshclient.ErrFull) && hint.Of(&PartialError{[]Problem{{"p", err}}}) == "" {
					t.Errorf("%s: no advice", of)
				}
			}
		})
	}
}

// failing is a guest where nothing can be made.
type failing struct {
	vfs   sftp.StatVFS
	there string // a file
	mount uint64 // the file system of all but what is not whole yet
}

func (f failing) serve(t *testing.T) *sftp.Client {
	t.Helper()
	return serving(t, sftp.Handlers{FilePut: f, FileCmd: f, FileList: f})
}

func (failing) Filewrite(*sftp.Request) (io.WriterAt, error) { return nil, errors.New("no") }

func (failing) Filecmd(*sftp.Request) error { return errors.New("no") }

func (f failing) StatVFS(q *sftp.Request) (*sftp.StatVFS, error) {
	vfs := f.vfs
	if !strings.Contains(q.Filepath, guestDir) {
		vfs.Fsid = f.mount
	}
	return &vfs, nil
}

func (f failing) Filelist(q *sftp.Request) (sftp.ListerAt, error) {
	if q.Filepath != f.there {
		return nil, fs.ErrNotExist
	}
	return regular{}, nil
}

// regular is one file.
type regular struct{ directory }

func (regular) Mode() fs.FileMode { return 0o644 }
func (regular) IsDir() bool       { return false }

func (r regular) ListAt(to []fs.FileInfo, at int64) (int, error) {
	if at > 0 {
		return 0, io.EOF
	}
	to[0] = r
	return 1, nil
}
