//go:build linux || darwin

package nfs

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file of which closing hangs, as where the system writes to a dead network disk
// first, keeps neither other shares' files open nor exports from changing.
func TestCloseHangs(t *testing.T) {
	w := newWorld(t)
	code := Export{Name: "code", Dir: w.dir, UID: coreID, GID: coreID}
	data := Export{Name: "data", Dir: t.TempDir(), UID: coreID, GID: coreID}
	must(t, w.server.Export([]Export{code, data}))
	hanging, other := w.server.volume(exportID(testKey, "code")), w.server.volume(exportID(testKey, "data"))

	idle := func(v *volume, fd int) {
		n := &node{}
		v.files.put(n, fd, true).release()
		v.files.mu.Lock()
		defer v.files.mu.Unlock()
		v.files.open[n].used = time.Now().Add(-time.Hour)
	}
	written := func(v *volume) (n int) {
		v.files.mu.Lock()
		defer v.files.mu.Unlock()
		for _, f := range v.files.open {
			if f.writable {
				n++
			}
		}
		return n
	}
	idle(hanging, hangsToClose(t))
	await(t, "the file to be closed", func() bool { return written(hanging) == 0 })
	idle(hanging, hangsToClose(t)) // the next one that is idle

	f, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	idle(other, f)
	await(t, "the other share's file to be closed", func() bool { return written(other) == 0 })

	changed := make(chan error, 1)
	go func() { changed <- w.server.Export([]Export{data}) }()
	select {
	case err := <-changed:
		must(t, err)
	case <-time.After(20 * time.Second):
		t.Error("exports do not change while a file of one is closed")
	}
}

// hangsToClose returns a descriptor that close(2) waits a minute for, or until the
// test ends: a socket whose peer does not take what it is sent.
func hangsToClose(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer nc.Close()
	peer, err := l.Accept()
	must(t, err)
	t.Cleanup(func() {
		must(t, peer.(*net.TCPConn).SetLinger(0)) // a reset, which ends the other side's wait
		must(t, peer.Close())
	})
	copied, err := nc.(*net.TCPConn).File()
	must(t, err)
	defer copied.Close()
	fd, err := unix.FcntlInt(copied.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	must(t, unix.SetNonblock(fd, true))
	for err == nil {
		_, err = unix.Write(fd, make([]byte, 64<<10))
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	must(t, unix.SetNonblock(fd, false))
	must(t, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 60}))
	return fd
}
