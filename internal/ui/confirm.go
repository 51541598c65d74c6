package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hostctl/hostctl/internal/hint"
)

// ErrNotTerminal is in the chain of errors about questions that nobody is
// there to answer.
var ErrNotTerminal = errors.New("not a terminal")

// Confirm asks a question that "y" or "yes" affirms; every other answer, Enter
// and the end of the input negate it. Without a terminal to ask on, it gives
// [ErrNotTerminal]; when ctx ends first, the context's cause.
func (u *UI) Confirm(ctx context.Context, question string) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settle()
	if err := u.canAsk(question); err != nil {
		return false, hint.Wrap(err, "use --yes to agree beforehand")
	}
	text, err := u.ask(ctx, line(question)+" [y/N] ")
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	switch strings.ToLower(text) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

// canAsk fails when nobody is there to answer.
func (u *UI) canAsk(question string) error {
	if !u.IsTerminal(u.opt.Stdin) || !u.IsTerminal(u.opt.Stderr) {
		return fmt.Errorf("%q cannot be asked: standard input or error is %w", question, ErrNotTerminal)
	}
	return nil
}

// ask prints the prompt and reads a line, without blanks around it; at the end
// of the input it returns [io.EOF], and when ctx ends first, the cause. The
// caller holds the lock.
func (u *UI) ask(ctx context.Context, prompt string) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	fmt.Fprint(u.opt.Stderr, prompt)

	// A read from a terminal cannot be interrupted. When ctx ends first, the
	// goroutine stays behind with the rest of a program that is ending.
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := readLine(u.opt.Stdin)
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			fmt.Fprintln(u.opt.Stderr) // the user's Enter did not
		}
		if a.err != nil && (a.text == "" || !errors.Is(a.err, io.EOF)) {
			return "", fmt.Errorf("read answer: %w", a.err)
		}
		return strings.TrimSpace(a.text), nil
	case <-ctx.Done():
		fmt.Fprintln(u.opt.Stderr)
		return "", context.Cause(ctx)
	}
}

// readLine reads up to a newline and not a byte more: the rest belongs to the
// next question or to a remote shell.
func readLine(r io.Reader) (string, error) {
	var b strings.Builder
	buf := make([]byte, 1)
	for {
		n, err := r.Read(buf)
		if n == 1 {
			if buf[0] == '\n' {
				return b.String(), nil
			}
			b.WriteByte(buf[0])
		}
		if err != nil {
			return b.String(), err
		}
	}
}
