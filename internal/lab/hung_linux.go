package lab

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Hung mounts a file system that does not answer, as that of a network disk whose
// server is gone: whoever looks at dir waits in the kernel until wake, or the test's
// end, ends it with an error. Then dir is an empty folder. It takes root, but no lab.
func Hung(t testing.TB) (dir string, wake func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system that hangs")
	}
	dir, err := os.MkdirTemp("", "hung")
	if err != nil {
		t.Fatal(err)
	}
	// Whoever has it open serves the file system (fuse(4)), and nobody reads from
	// it. Should the test be killed, the kernel closes it, and nothing hangs on.
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())
	if err := unix.Mount("hung", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatal(err)
	}
	wake = sync.OnceFunc(func() {
		if err := device.Close(); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		wake()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir, wake
}
