//go:build !windows

package sshclient

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// makeRaw returns the function that undoes it.
func makeRaw(t Terminal) (restore func() error, err error) {
	fd := int(t.In.Fd())
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() error { return term.Restore(fd, state) }, nil
}

// sizeChanges returns a channel that gets something whenever the size of the
// terminal may have changed, until done is closed.
func sizeChanges(done <-chan struct{}) <-chan os.Signal {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	go func() {
		<-done
		signal.Stop(changes) // nothing is sent after this
		close(changes)
	}()
	return changes
}
