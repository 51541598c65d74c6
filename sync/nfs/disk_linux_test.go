package nfs

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace runs the test in a process that may mount what nobody else sees.
// It returns true in that process.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const inside = "HOSTCTL_TEST_NFS_NAMESPACE"
	if os.Getenv(inside) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a namespace: %v\n%s", err, out)
	}
	return false
}

// newSmallWorld is newWorld on a disk of its own with room for size bytes.
func newSmallWorld(t *testing.T, size string) *world {
	t.Helper()
	base := t.TempDir()
	w := &world{dir: filepath.Join(base, "share"), state: filepath.Join(base, "state")}
	must(t, os.Mkdir(w.dir, 0o755))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("small", w.dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { must(t, unix.Unmount(w.dir, unix.MNT_DETACH)) })
	w.start(t)
	t.Cleanup(func() { w.stop() })
	return w
}

// The guest is told when the host's disk is full, and loses nothing that it was
// told is written.
func TestDiskFull(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	w := newSmallWorld(t, "1m")
	f, st := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o600))})
	w.want(st, ok)
	piece := bytes.Repeat([]byte("0123456789abcdef"), 6000) // not a multiple of a page
	var written uint64
	for st == ok {
		if written > 2<<20 {
			t.Fatal("the disk is never full")
		}
		var n uint32
		if n, _, st = w.write(f, written, piece[written%uint64(len(piece)):], unstable); st == ok {
			written += uint64(n)
		}
	}
	w.want(st, errNoSpc)
	if _, _, st := w.write(f, written, piece, fileSync); st != errNoSpc {
		t.Errorf("a stable write: %d", st)
	}
	_, st = w.commit(f)
	w.want(st, ok)
	if a := w.stat(f); a.size != written {
		t.Errorf("%d bytes, %d were written", a.size, written)
	}
	for at := uint64(0); at < written; {
		b, _, st := w.read(f, at, maxData)
		w.want(st, ok)
		for i, c := range b {
			if where := (at + uint64(i)) % uint64(len(piece)); c != piece[where] {
				t.Fatalf("byte %d is %q", at+uint64(i), c)
			}
		}
		at += uint64(len(b))
	}
	g, st := w.create(w.root, "g", guarded, sets{})
	if st == ok { // its name takes no room of the data's
		_, _, st = w.write(g, 0, piece, unstable)
	}
	w.want(st, errNoSpc)
	w.want(w.remove(w.root, "f"), ok)
	n, _, st := w.write(g, 0, piece, fileSync)
	w.want(st, ok)
	if int(n) != len(piece) {
		t.Errorf("wrote %d of %d bytes to a disk with room", n, len(piece))
	}
}
