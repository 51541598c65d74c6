//go:build linux || darwin

package nfs

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostctl/hostctl/internal/wait"
)

// What the server remembers of a folder's owner is never older than the last
// change that a guest made, whatever others do in the folder meanwhile.
func TestOwnerDuringChanges(t *testing.T) {
	w := newWorld(t)
	d, st := w.mkdir(w.root, "d", 0o777)
	w.want(st, ok)
	stop := make(chan struct{})
	var others sync.WaitGroup
	for i := range 3 {
		c := dial(t, w.addr)
		others.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("f%d-%d", i, j)
				c.create(d, name, guarded, sets{})
				c.getattr(d)
				c.remove(d, name)
			}
		})
	}
	for uid := range uint32(500) {
		w.want(w.setattr(d, sets{uid: p(uid)}), ok)
		if a := w.stat(d); a.uid != uid {
			t.Errorf("owner %d, after chown to %d", a.uid, uid)
			break
		}
	}
	close(stop)
	others.Wait()
}

// What another server, which serves the same folder, keeps beside a file is
// seen soon even when it follows at once.
func TestOwnerByAnotherServer(t *testing.T) {
	w := newWorld(t)
	f, st := w.create(w.root, "f", guarded, sets{mode: p(uint32(0o644)), uid: p(uint32(70)), gid: p(uint32(70))})
	w.want(st, ok)
	theirs := owner{mode: unix.S_IFREG | 0o644, host: 0o644, uid: 71, gid: 72}
	must(t, unix.Lsetxattr(filepath.Join(w.dir, "f"), xattr, theirs.append(nil), 0))
	ctx, cancel := context.WithTimeout(t.Context(), 50*settled)
	defer cancel()
	must(t, wait.Until(ctx, 5*time.Millisecond, func(context.Context) error {
		if a := w.stat(f); a.uid != 71 || a.gid != 72 {
			return fmt.Errorf("owner %d, group %d", a.uid, a.gid)
		}
		return nil
	}))
}
