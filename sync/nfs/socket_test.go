//go:build linux || darwin

package nfs

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// sockets returns a socket, and the other end of its connection.
func sockets(t *testing.T, patience time.Duration) (*socket, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	t.Cleanup(func() { peer.Close() })
	nc, err := l.Accept()
	must(t, err)
	s, err := newSocket(nc, patience, patience)
	must(t, err)
	t.Cleanup(s.close)
	return s, peer
}

func TestSocketGoesOnAfterSilence(t *testing.T) {
	s, peer := sockets(t, 20*time.Millisecond)
	b := make([]byte, 8)
	if n, err := s.Read(b); n != 0 || !errors.Is(err, errIdle) {
		t.Fatalf("Read of nothing: %d, %v", n, err)
	}
	_, err := peer.Write([]byte("hello"))
	must(t, err)
	n := 0
	for n == 0 {
		if n, err = s.Read(b); err != nil && !errors.Is(err, errIdle) {
			t.Fatal(err)
		}
	}
	if string(b[:n]) != "hello" {
		t.Fatalf("Read %q", b[:n])
	}
	must(t, peer.Close())
	for errors.Is(err, errIdle) || err == nil {
		_, err = s.Read(b)
	}
	if !errors.Is(err, io.EOF) {
		t.Fatalf("Read after the end: %v", err)
	}
}

func TestSocketGivesUpOnAGuestThatTakesNothing(t *testing.T) {
	s, _ := sockets(t, 50*time.Millisecond)
	n, err := s.Write(make([]byte, 64<<20))
	if !errors.Is(err, errIdle) || n >= 64<<20 {
		t.Fatalf("Write to somebody who does not read: %d, %v", n, err)
	}
}

func TestSocketIsShutWhileItWaits(t *testing.T) {
	s, _ := sockets(t, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	stop := s.shutAfter(ctx)
	read := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 8))
		read <- err
	}()
	cancel()
	if err := <-read; err == nil {
		t.Fatal("Read something")
	}
	stop()
}
