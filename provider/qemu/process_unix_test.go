//go:build !windows

package qemu

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/uuid"
)

// impostor runs a shell under the command line of the domain's QEMU, whose
// monitor would be the file at path.
func impostor(t *testing.T, id, path string, who *syscall.SysProcAttr) vm {
	t.Helper()
	cmd := exec.Command("/bin/sh")
	cmd.Args = []string{"qemu-system-x86_64", "-c", "read forever; exit", "-uuid", id, "-chardev", "socket,id=qmp,path=" + path}
	cmd.SysProcAttr = who
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		stdin.Close()
		<-ended
	})
	return vm{pid: cmd.Process.Pid, argv: cmd.Args}
}

// Whoever may run programs on this host can give one the command line of our
// QEMU.
func TestOtherUsersProcessesAreNotOurs(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run something as another user")
	}
	id := uuid.NewString()
	dir := domainDir(t.TempDir())
	fake := impostor(t, id, "/nowhere", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	if v := inspect(t.Context(), fake.pid); v.id() != "" {
		t.Errorf("another user's process %d is taken for the QEMU of %s", fake.pid, v.id())
	}
	if v, running, err := find(t.Context(), dir, id); err != nil || running {
		t.Errorf("found %+v, %v", v, err)
	}
	mine := impostor(t, id, "/nowhere", nil)
	if v, running, err := find(t.Context(), dir, id); err != nil || !running || v.pid != mine.pid {
		t.Errorf("found %+v, %t, %v; want our own process %d", v, running, err, mine.pid)
	}
}

// A command line says where to reach a monitor, never what to remove.
func TestPowerOffRemovesOnlyTheDomainsSocket(t *testing.T) {
	t.Parallel()
	at, run := t.TempDir(), t.TempDir()
	precious := filepath.Join(at, "precious")
	if err := os.WriteFile(precious, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := New(Config{Root: at, RunDir: func() (string, error) { return run, nil }})
	id := uuid.NewString()
	socket := filepath.Join(run, qmpSocketName(id))
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.powerOff(context.WithoutCancel(t.Context()), id, impostor(t, id, precious, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the domain's own socket is left: %v", err)
	}
}

func TestInstallHint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ host, guest, want string }{
		{"amd64", "amd64", "install QEMU: apt-get install qemu-system-x86 qemu-utils, or dnf install qemu-kvm qemu-img"},
		{"amd64", "arm64", "install QEMU: apt-get install qemu-system-arm qemu-efi-aarch64 qemu-utils, or dnf install qemu-system-aarch64-core qemu-img"},
		{"arm64", "amd64", "install QEMU: apt-get install qemu-system-x86 qemu-utils, or dnf install qemu-system-x86-core qemu-img"},
	} {
		if got := installHint("linux", c.host, c.guest); got != c.want {
			t.Errorf("%s on %s: got %q, want %q", c.guest, c.host, got, c.want)
		}
	}
}

// Red Hat's enterprise systems have their QEMU off the PATH, under a name of
// its own.
func TestRedHatQEMU(t *testing.T) {
	t.Parallel()
	p := New(Config{LookPath: func(file string) (string, error) {
		if file == redHatQEMU {
			return file, nil
		}
		return "", &exec.Error{Name: file, Err: exec.ErrNotFound}
	}})
	for _, arch := range []string{"amd64", "arm64"} {
		path, err := p.program(emulator(arch), arch)
		native := arch == runtime.GOARCH && runtime.GOOS == "linux"
		if native && (err != nil || path != redHatQEMU) || !native && err == nil {
			t.Errorf("%s: got %q, %v", arch, path, err)
		}
	}
}
