package sshclient

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

// A program that hangs takes no connections once its queue is full: that, too, is
// waited for no longer than for an answer.
func TestDialQueueFull(t *testing.T) {
	t.Parallel()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	hung := os.NewFile(uintptr(fd), "listener")
	defer hung.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	to := newGuest(t).target(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*syscall.SockaddrInet4).Port)))
	queued, err := net.Dial("tcp", to.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer queued.Close()

	_, err = dial(t.Context(), to, 200*time.Millisecond)
	if want := "ssh " + to.String() + ": no SSH server answers: i/o timeout"; !errors.Is(err, ErrNoAnswer) || err.Error() != want {
		t.Errorf("dial() error = %v, want %s", err, want)
	}
}
