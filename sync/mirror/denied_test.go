package mirror

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/hint"
)

// A missing permission is told with the side that it is missing on, and in the
// guest, where it is mostly a container's doing, with what helps.
func TestDenied(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write(t, folder, files{"f": "x"})
	root, err := os.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	client := denying{}.serve(t)
	r := &run{
		cfg: Config{Guest: "/srv/site", Both: true, Machine: "core-01"}, ctx: t.Context(), result: &Result{}, pairs: map[string]*pair{},
		host: &host{root: root, skip: NewMatcher(nil)}, guest: &guest{root: "/srv/site"},
	}
	const (
		there  = "permission denied in the guest, maybe as a container made it or its directory"
		advice = `hostctl ssh core-01 -c 'sudo chown -R "$USER:" /srv/site' makes all of it the guest's user's; it stays so if the container runs as that user`
	)
	for _, tt := range []struct {
		name         string
		do           func(a *action) error
		text, advice string
	}{
		{"fetching", func(a *action) error { return r.fetchFile(client, &action{path: "n", want: a.want}) }, there, advice},
		{"sending", func(a *action) error { return r.sendOne(client, a) }, there, advice},
		{"making a directory", func(a *action) error { return r.mkdir(client, a) }, there, advice},
		{"here", func(*action) error { return &fs.PathError{Op: "openat", Path: "f", Err: syscall.EACCES} }, "on this computer: openat f: permission denied", ""},
	} {
		a := &action{path: "f", want: &entry{kind: file, size: 1}}
		r.problems = nil
		if err := r.over(a, tt.do(a)); err != nil || len(r.problems) != 1 {
			t.Fatalf("%s: %v, %v", tt.name, r.problems, err)
		}
		if diff := cmp.Diff(files{"f": "x"}, read(t, folder)); diff != "" {
			t.Errorf("%s leaves in the folder:\n%s", tt.name, diff)
		}
		err := r.partial()
		if want := "f was not mirrored: " + tt.text; err.Error() != want || hint.Of(err) != tt.advice || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s:\n%v\n%s\nwant\n%s\n%s", tt.name, err, hint.Of(err), want, tt.advice)
		}
	}
}

// Two or three paths are all named, of more the first two. What is behind
// several is said once.
func TestPartialError(t *testing.T) {
	t.Parallel()
	busy, gone := errors.New("busy"), errors.New("gone")
	for want, problems := range map[string][]Problem{
		"a was not mirrored: busy":                                  {{"a", busy}},
		"2 paths were not mirrored: a, b: busy":                     {{"b", busy}, {"a", busy}},
		"3 paths were not mirrored: a, b: busy; c: gone":            {{"c", gone}, {"b", busy}, {"a", busy}},
		"4 paths were not mirrored: a: busy; b: gone; and 2 others": {{"d", gone}, {"c", gone}, {"b", gone}, {"a", busy}},
		"5 paths were not mirrored: a, b: busy; and 3 others":       {{"a", busy}, {"b", busy}, {"e", gone}, {"c", busy}, {"d", gone}},
	} {
		if got := (&run{problems: problems}).partial().Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// denying is a guest where nothing may be done. What is not whole yet is not there.
type denying struct{}

func (d denying) serve(t *testing.T) *sftp.Client {
	t.Helper()
	return serving(t, sftp.Handlers{FileGet: d, FilePut: d, FileCmd: d, FileList: d})
}

func (denying) Fileread(*sftp.Request) (io.ReaderAt, error) {
	return nil, sftp.ErrSSHFxPermissionDenied
}

func (denying) Filewrite(*sftp.Request) (io.WriterAt, error) {
	return nil, sftp.ErrSSHFxPermissionDenied
}

func (denying) Filecmd(*sftp.Request) error { return sftp.ErrSSHFxPermissionDenied }

func (denying) Filelist(q *sftp.Request) (sftp.ListerAt, error) {
	if strings.Contains(q.Filepath, guestDir) {
		return nil, fs.ErrNotExist
	}
	return nil, sftp.ErrSSHFxPermissionDenied
}
