package sshclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// openTerminal returns both ends of a pseudo-terminal: the keyboard and screen,
// and what a program is connected to.
func openTerminal(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(user.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(user.Close(), tty.Close()); err != nil {
			t.Error(err)
		}
	})
	return user, tty
}

func resize(t *testing.T, tty *os.File, columns, rows uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
}

func attributes(t *testing.T, tty *os.File) unix.Termios {
	t.Helper()
	a, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *a
}

type shellResult struct {
	exit int
	err  error
}

// startShell runs Shell on a new terminal, and returns once the guest's shell
// is there.
func startShell(ctx context.Context, t *testing.T, c *Client, command string) (user, tty *os.File, screen *lines, result chan shellResult, before unix.Termios) {
	t.Helper()
	user, tty = openTerminal(t)
	resize(t, tty, 100, 30)
	before = attributes(t, tty)
	screen = newLines()
	go func() { _, _ = io.Copy(screen, user) }() // ends with the terminal
	result = make(chan shellResult, 1)
	go func() {
		exit, err := c.Shell(ctx, command, Terminal{In: tty, Out: tty, Type: "vt220"})
		result <- shellResult{exit, err}
	}()
	screen.waitFor(t, "pty vt220 100x30\r\n")
	return user, tty, screen, result, before
}

func press(t *testing.T, user *os.File, keys string) {
	t.Helper()
	if _, err := io.WriteString(user, keys); err != nil {
		t.Fatal(err)
	}
}

func TestShell(t *testing.T) {
	t.Parallel()
	c := connect(t, newGuest(t).start())
	user, tty, screen, result, before := startShell(t.Context(), t, c, "")

	press(t, user, "\x03")
	screen.waitFor(t, `got "\x03"`) // Ctrl-C is the guest's
	press(t, user, "a")
	screen.waitFor(t, `got "a"`) // at once, not by the line

	resize(t, tty, 120, 40)
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	screen.waitFor(t, "size 120x40\r\n")

	press(t, user, "q")
	if r := <-result; r.err != nil || r.exit != 7 {
		t.Errorf("Shell() = %d, %v; want 7", r.exit, r.err)
	}
	if attributes(t, tty) != before {
		t.Error("the terminal was not restored")
	}
}

func TestShellWithCommand(t *testing.T) {
	t.Parallel()
	c := connect(t, newGuest(t).start())
	user, _, screen, result, _ := startShell(t.Context(), t, c, "top")
	screen.waitFor(t, "command top\r\n")
	press(t, user, "q")
	if r := <-result; r.err != nil || r.exit != 7 {
		t.Errorf("Shell() = %d, %v; want 7", r.exit, r.err)
	}
}

func TestShellRestoresTheTerminal(t *testing.T) {
	t.Parallel()
	interrupted := errors.New("interrupted")
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, g *guest, user *os.File, cancel context.CancelCauseFunc)
		want error
	}{
		{"context", func(_ *testing.T, _ *guest, _ *os.File, cancel context.CancelCauseFunc) { cancel(interrupted) }, interrupted},
		{"connection lost", func(_ *testing.T, g *guest, _ *os.File, _ context.CancelCauseFunc) { g.hangUp() }, ErrLost},
		{"escape", func(t *testing.T, _ *guest, user *os.File, _ context.CancelCauseFunc) { press(t, user, "x\r~.") }, ErrDisconnected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			user, tty, screen, result, before := startShell(ctx, t, connect(t, g.start()), "")
			press(t, user, "a")
			screen.waitFor(t, `got "a"`)
			if attributes(t, tty) == before {
				t.Error("the terminal is not raw")
			}
			tt.end(t, g, user, cancel)
			if r := <-result; !errors.Is(r.err, tt.want) {
				t.Errorf("Shell() = %d, %v; want %v", r.exit, r.err, tt.want)
			}
			if attributes(t, tty) != before {
				t.Error("the terminal was not restored")
			}
		})
	}
}

// With -t but input from a file there is nothing to make raw.
func TestShellWithoutTerminalInput(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, []byte("~.\nq"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	user, tty := openTerminal(t)
	if _, err := term.MakeRaw(int(tty.Fd())); err != nil { // no echo, no \r
		t.Fatal(err)
	}
	screen := newLines()
	go func() { _, _ = io.Copy(screen, user) }()
	c := connect(t, newGuest(t).start())
	exit, err := c.Shell(t.Context(), "", Terminal{In: in, Out: tty})
	if err != nil || exit != 7 {
		t.Errorf("Shell() = %d, %v; want 7", exit, err)
	}
	screen.waitFor(t, "pty xterm 80x24\r\n")
	screen.waitFor(t, `got "~.\nq"`)
}
