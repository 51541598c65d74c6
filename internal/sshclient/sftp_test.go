package sshclient_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/sshtest"
)

func TestSFTP(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c, err := sshclient.Dial(t.Context(), s.Target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	files, err := c.SFTP(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	f, err := files.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("over SFTP")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), files.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "over SFTP" {
		t.Errorf("the file has %q, %v", got, err)
	}
	// The connection is there for others.
	if status, err := c.Exec(t.Context(), "exit 3", sshclient.Streams{}); status != 3 || err != nil {
		t.Errorf("Exec() = %d, %v", status, err)
	}
	s.HangUp()
	c.AwaitEnd()
	if _, err := c.SFTP(t.Context(), false); !errors.Is(err, sshclient.ErrLost) {
		t.Errorf("SFTP() on a connection that is lost: %v", err)
	}
}

// A write may find the end before the session does: sftp passes on what the
// socket said.
func TestLostInAWrite(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("failed to send packet: %w", &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE})
	for _, tt := range []struct {
		err  error
		want bool
	}{{err, true}, {io.EOF, true}, {sshclient.ErrLost, true}, {nil, false}, {&sftp.StatusError{Code: 4}, false}, {fs.ErrPermission, false}} {
		if got := sshclient.Lost(tt.err); got != tt.want {
			t.Errorf("Lost(%v) = %v", tt.err, got)
		}
	}
}
