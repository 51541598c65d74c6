package mirror

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/sshtest"
)

// A directory that cannot be removed is left alone where it is not empty, and
// told of where it is on a read-only file system, or the place of a mount: SFTP
// calls all of it a failure.
func TestRefusals(t *testing.T) {
	t.Parallel()
	failure := &sftp.StatusError{Code: uint32(sftp.ErrSSHFxFailure)}
	for _, tt := range []struct {
		name  string
		guest refusing
		err   error
		want  error
	}{
		{"nothing", refusing{}, nil, nil},
		{"another reason", refusing{}, fs.ErrPermission, fs.ErrPermission},
		{"not empty", refusing{children: 1}, failure, errNotEmpty},
		{"not empty and read-only", refusing{children: 1, flag: 1}, failure, sshclient.ErrReadOnly},
		{"a mount", refusing{children: 1, mount: 7}, failure, errMounted},
		{"an empty mount", refusing{mount: 7}, failure, errMounted},
		{"nobody knows", refusing{}, failure, failure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := &guest{root: "/srv"}
			if err := g.refusal(tt.guest.serve(t), "d", tt.err); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// refusing is a guest with a directory /srv/d.
type refusing struct {
	children int
	flag     uint64 // of its file system
	mount    uint64 // the file system of d, where it is another one
}

func (r refusing) serve(t *testing.T) *sftp.Client {
	t.Helper()
	return serving(t, sftp.Handlers{FileCmd: r, FileList: r})
}

func (refusing) Filecmd(*sftp.Request) error { return errors.New("no") }

func (r refusing) StatVFS(q *sftp.Request) (*sftp.StatVFS, error) {
	vfs := &sftp.StatVFS{Flag: r.flag}
	if q.Filepath == "/srv/d" {
		vfs.Fsid = r.mount
	}
	return vfs, nil
}

func (r refusing) Filelist(q *sftp.Request) (sftp.ListerAt, error) {
	if q.Method == "List" {
		return listed(r.children), nil
	}
	return listed(1), nil
}

// listed are so many directories.
type listed int

func (n listed) ListAt(to []fs.FileInfo, at int64) (int, error) {
	if at >= int64(n) {
		return 0, io.EOF
	}
	to[0] = directory{}
	return 1, nil
}

type directory struct{}

func (directory) Name() string       { return "d" }
func (directory) Size() int64        { return 0 }
func (directory) Mode() fs.FileMode  { return fs.ModeDir | 0o755 }
func (directory) ModTime() time.Time { return time.Unix(0, 0) }
func (directory) IsDir() bool        { return true }
func (directory) Sys() any           { return nil }

// What stands where the guest's folder is to be is said, with what to do.
func TestFileInTheWay(t *testing.T) {
	t.Parallel()
	conn := dial(t, sshtest.Start(t))
	for _, tt := range []struct {
		name, file, guest, want string
	}{
		{"a file", "guest", "guest", "the guest's folder cannot be made or written: DIR/guest is there and no folder"},
		{"above it", "srv", "srv/www/site", "the guest's folder cannot be made or written: DIR/srv/www/site: DIR/srv is there and no folder"},
	} {
		b := newBench(t, conn, false)
		dir := filepath.Dir(b.cfg.Host)
		if err := os.WriteFile(filepath.Join(dir, tt.file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		b.cfg.Guest = filepath.Join(dir, tt.guest)
		_, err := Sync(t.Context(), conn, b.cfg)
		if !errors.Is(err, errGuestFolder) || hint.Of(err) != "move it away in the guest, or give the share another guest path" {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := strings.ReplaceAll(err.Error(), dir, "DIR"); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// serving is the client of a guest whose SFTP server has these handlers.
func serving(t *testing.T, h sftp.Handlers) *sftp.Client {
	t.Helper()
	here, there := net.Pipe()
	server := sftp.NewRequestServer(there, h)
	go func() { _ = server.Serve() }() // until the pipe is closed
	client, err := sftp.NewClientPipe(here, here)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = there.Close() })
	return client
}
