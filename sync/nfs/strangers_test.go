//go:build linux || darwin

package nfs

import (
	"errors"
	"os"
	"testing"
	"time"
)

// However many connect and say nothing, a guest finds a place, and who has one as a
// guest keeps it.
func TestStrangersLeaveRoomForGuests(t *testing.T) {
	w := newWorld(t)
	var idle []*client
	for range maxConns {
		c := dial(t, w.addr)
		must(t, c.nc.SetDeadline(time.Now().Add(20*time.Second)))
		idle = append(idle, c)
	}
	guest := dial(t, w.addr)
	must(t, guest.nc.SetDeadline(time.Now().Add(20*time.Second)))
	guest.stat(w.root)
	w.stat(w.root)
	if n, err := idle[0].nc.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest stranger is still there: %d, %v", n, err)
	}
	idle[maxConns-1].mountRoot(Path(testKey, "code"))
}
