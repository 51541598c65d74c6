package ui

import "fmt"

// Yield leaves the terminal to fn, which asks the user something by itself, as sudo
// asks for a password. The display ends before, and what is reported meanwhile
// waits. why is said first. Without a terminal it gives [ErrNotTerminal], and fn
// does not run.
func (u *UI) Yield(why string, fn func() error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settle()
	if err := u.canAsk(why); err != nil {
		return err
	}
	fmt.Fprintln(u.opt.Stderr, line(why))
	return fn()
}
