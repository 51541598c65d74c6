//go:build unix

package transfer

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/internal/sshtest"
)

// A file's content is on disk before its name is, or a crash leaves it empty.
func TestDurable(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	did := &recording{hostDir: hostDir{root}}
	// One at a time: the order is of each file.
	for _, name := range []string{"a", "b"} {
		if _, err := run(t.Context(), host{}, []string{filepath.Join(from, name)}, did, []string{name}, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"sync", "rename a", "settle .", "sync", "rename b", "settle ."}
	if !slices.Equal(did.steps, want) {
		t.Errorf("it did %q, want %q", did.steps, want)
	}
}

// recording is a directory of this host that notes what makes files durable.
type recording struct {
	hostDir
	steps []string
}

func (r *recording) create(name string) (created, error) {
	f, err := r.hostDir.create(name)
	return &recordedFile{f, r}, err
}

func (r *recording) rename(from, to string) error {
	r.steps = append(r.steps, "rename "+to)
	return r.hostDir.rename(from, to)
}

func (r *recording) settle(dirs []string) error {
	r.steps = append(r.steps, "settle "+strings.Join(dirs, " "))
	return r.hostDir.settle(dirs)
}

type recordedFile struct {
	created
	r *recording
}

func (f *recordedFile) Sync() error {
	f.r.steps = append(f.r.steps, "sync")
	return f.created.Sync()
}

// So it is in the guest, where its server can.
func TestDurableInGuest(t *testing.T) {
	t.Parallel()
	target := sshtest.Start(t).Target
	conn, err := ssh.Dial("tcp", target.Addr.String(), &ssh.ClientConfig{
		User: target.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(target.Signer)}, HostKeyCallback: ssh.FixedHostKey(target.HostKey),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	session, err := conn.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := session.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.RequestSubsystem("sftp"); err != nil {
		t.Fatal(err)
	}
	var asked bytes.Buffer
	client, err := sftp.NewClientPipe(out, teed{in, &asked}, SFTP()...)
	if err != nil {
		t.Fatal(err)
	}
	from, to := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "a"), []byte("A"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Upload(context.Background(), client, []string{from + "/a"}, to, Options{}); err != nil {
		t.Fatal(err)
	}
	_ = client.Close() // nothing is written to asked any more
	synced, renamed := bytes.Index(asked.Bytes(), []byte("fsync@openssh.com")), bytes.Index(asked.Bytes(), []byte("posix-rename@openssh.com"))
	if synced < 0 || renamed < synced {
		t.Errorf("fsync at byte %d, rename at byte %d", synced, renamed)
	}
}

type teed struct {
	io.WriteCloser
	also io.Writer
}

func (t teed) Write(p []byte) (int, error) {
	_, _ = t.also.Write(p) // it never fails
	return t.WriteCloser.Write(p)
}
