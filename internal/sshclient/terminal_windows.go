package sshclient

import (
	"errors"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/term"
)

// makeRaw also lets the console understand the guest's escape sequences.
func makeRaw(t Terminal) (restore func() error, err error) {
	in, out := int(t.In.Fd()), windows.Handle(t.Out.Fd())
	state, err := term.MakeRaw(in)
	if err != nil {
		return nil, err
	}
	restore = func() error { return term.Restore(in, state) }
	var mode uint32
	if windows.GetConsoleMode(out, &mode) != nil {
		return restore, nil // the output goes to a file
	}
	if err := windows.SetConsoleMode(out, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING|windows.DISABLE_NEWLINE_AUTO_RETURN); err != nil {
		return nil, errors.Join(err, restore())
	}
	return func() error {
		return errors.Join(windows.SetConsoleMode(out, mode), term.Restore(in, state))
	}, nil
}

// sizeChanges asks for a look twice a second: a console tells only those who
// read its events, and those would be lost to the reader of the keys.
func sizeChanges(done <-chan struct{}) <-chan time.Time {
	changes := make(chan time.Time)
	go func() {
		defer close(changes)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				changes <- now
			case <-done:
				return
			}
		}
	}()
	return changes
}
