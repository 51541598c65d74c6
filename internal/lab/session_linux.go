package lab

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
)

// Session is the libvirtd of a user without privileges.
type Session struct {
	Dir    string // the user's home, which everybody may look into
	Socket string
}

// nobody is who the session's user is.
const nobody = 65534

// NewSession starts such a libvirtd, which ends with the test.
func NewSession(t testing.TB) Session {
	t.Helper()
	Need(t)
	dir, err := os.MkdirTemp("/run", "session")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(dir + ".log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("libvirtd")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the test ends it
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	s := Session{Dir: dir, Socket: filepath.Join(dir, "libvirt", "libvirt-sock")}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := wait.Until(ctx, 20*time.Millisecond, func(ctx context.Context) error {
		c, err := new(net.Dialer).DialContext(ctx, "unix", s.Socket)
		if err == nil {
			c.Close()
		}
		return err
	}); err != nil {
		words, _ := os.ReadFile(log.Name()) // only adds to the error
		t.Fatalf("start the session's libvirtd: %v\n%s", err, words)
	}
	return s
}
