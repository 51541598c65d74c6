package ui

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// attempts is how often a number that is none is asked for again.
const attempts = 3

// Choose asks for one of options by its number and returns its index; Enter
// chooses the first. Without a terminal to ask on, it gives [ErrNotTerminal];
// when ctx ends first, the context's cause.
func (u *UI) Choose(ctx context.Context, question string, options []string) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settle()
	if err := u.canAsk(question); err != nil {
		return 0, err
	}
	var b strings.Builder
	fmt.Fprintln(&b, line(question))
	for i, o := range options {
		fmt.Fprintf(&b, "%3d  %s\n", i+1, line(o))
	}
	b.WriteString("number [1]: ")
	prompt, text := b.String(), ""
	for range attempts {
		var err error
		if text, err = u.ask(ctx, prompt); err != nil {
			return 0, err
		}
		if text == "" {
			return 0, nil
		}
		if n, err := strconv.Atoi(text); err == nil && n >= 1 && n <= len(options) {
			return n - 1, nil
		}
		prompt = fmt.Sprintf("a number from 1 to %d: ", len(options))
	}
	return 0, fmt.Errorf("%q is no number from 1 to %d", text, len(options))
}
