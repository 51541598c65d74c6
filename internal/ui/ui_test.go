package ui_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hostctl/hostctl/internal/golden"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/internal/wait"
)

func TestNewIsFree(t *testing.T) {
	t.Parallel()
	u := ui.New(ui.Options{
		Getenv:   func(name string) string { t.Errorf("New reads %s", name); return "" },
		Terminal: func(any) (int, int, bool) { t.Error("New probes a terminal"); return 0, 0, false },
	})
	u.Reporter()
	u.Log()
	u.Close()
}

func TestColour(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		noColor bool
		env     []string
		want    bool
	}{
		{name: "terminal", want: true},
		{name: "--no-color", noColor: true},
		{name: "NO_COLOR", env: []string{"NO_COLOR", "1"}},
		{name: "empty NO_COLOR", env: []string{"NO_COLOR", ""}, want: true},
		{name: "dumb", env: []string{"TERM", "dumb"}},
		{name: "CLICOLOR_FORCE loses", env: []string{"CLICOLOR_FORCE", "1", "NO_COLOR", "1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScreen(t, 80, 24)
			u := s.ui(ui.Options{NoColor: tt.noColor}, tt.env...)
			u.Notice("hello")
			if got := strings.Contains(s.raw.String(), "\x1b["); got != tt.want {
				t.Errorf("colour is %v, want %v: %q", got, tt.want, s.raw.String())
			}
		})
	}
	t.Run("pipe", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		u := ui.New(ui.Options{Stderr: &out, Getenv: environ("CLICOLOR_FORCE", "1")})
		u.Warn("%d of %d", 1, 2)
		if want := "warning: 1 of 2\n"; out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	})
	t.Run("stdout in a pipe, stderr on a terminal", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		s := newScreen(t, 80, 24)
		u := s.ui(ui.Options{Stdout: &out})
		if err := u.Table([]ui.Column{{Name: "STATE", Tone: func(string) ui.Tone { return ui.Good }}}, [][]string{{"running"}}); err != nil {
			t.Fatal(err)
		}
		if want := "STATE\nrunning\n"; out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	})
}

// serial is an error that quotes a guest.
type serial struct {
	error
	log string
}

func (s serial) Unwrap() error  { return s.error }
func (s serial) Detail() string { return s.log }

func TestError(t *testing.T) {
	t.Parallel()
	taken := hint.Wrap(errors.New(`core-01: start domain: forward "docker": host port 2375 is in use by nginx (pid 812)`),
		"set auto_correct = true (machine.hcl line 41) or choose another host port")
	timeout := hint.Wrap(serial{
		fmt.Errorf("core-02: wait for SSH on 127.0.0.1:2222: %w", &wait.Error{After: 2 * time.Minute, Last: errors.New("connection refused")}),
		"\x1b[2J\x1b[H[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b]0;title\x07Basic System.\r\n" +
			"\r\n" +
			"[\x1b[0;31mFAILED\x1b[0m] Failed to start \x9b31mIgnition (files), which is a long line even for a wide terminal, as they are on the console.\r\n\r\n",
	}, "the guest's whole log: hostctl logs core-02")
	long := errors.New("unpack /home/someone/.cache/hostctl/images/flatcar-stable-4230.2.1-amd64/flatcar_production_qemu_image.img.bz2: unexpected end of file")
	for _, tt := range []struct {
		name string
		err  error
	}{
		{"hint", taken},
		{"detail", timeout},
		{"joined", errors.Join(taken, errors.Join(timeout, long))},
		{"lines", errors.New("two lines:\n  the second\x1b[2K is hostile")},
	} {
		for _, width := range []int{0, 40, 80} {
			name := fmt.Sprintf("error_%s_%d.golden", tt.name, width)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var out bytes.Buffer
				u := ui.New(ui.Options{Stderr: &out, NoColor: true, Getenv: environ(),
					Terminal: func(any) (int, int, bool) { return width, 24, width > 0 }})
				u.Error(tt.err)
				golden.Equal(t, name, out.String())
			})
		}
	}
	t.Run("nil", func(t *testing.T) {
		t.Parallel()
		s := newScreen(t, 80, 24)
		s.ui(ui.Options{}).Error(nil)
		if s.raw.Len() > 0 {
			t.Errorf("wrote %q", s.raw.String())
		}
	})
	t.Run("colours", func(t *testing.T) {
		t.Parallel()
		s := newScreen(t, 80, 24)
		s.ui(ui.Options{}).Error(timeout)
		golden.Equal(t, "error_colours.golden", fmt.Sprintf("%q\n", s.raw.String()))
	})
}

func TestTable(t *testing.T) {
	t.Parallel()
	columns := []ui.Column{
		{Name: "NAME"},
		{Name: "STATE", Tone: func(s string) ui.Tone {
			if s == "running" {
				return ui.Good
			}
			return ui.Bad
		}},
		{Name: "CPUS", Right: true},
		{Name: "DOCKER"},
	}
	rows := [][]string{
		{"core-01", "running", "2", "tcp://127.0.0.1:2375"},
		{"größer-機-01", "stopped", "16", ""},
		{"hostile\x1b[2J\nname", "missing", "1", "-"},
	}
	var pipe bytes.Buffer
	u := ui.New(ui.Options{Stdout: &pipe})
	if err := u.Table(columns, rows); err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "table.golden", pipe.String())

	s := newScreen(t, 80, 24)
	if err := s.ui(ui.Options{}).Table(columns, rows); err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "table_colours.golden", fmt.Sprintf("%q\n", s.raw.String()))
	for i, l := range strings.Split(strings.TrimSuffix(pipe.String(), "\n"), "\n") {
		if s.lines[i] != l {
			t.Errorf("line %d is %q on a terminal, %q in a pipe", i+1, s.lines[i], l)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	u := ui.New(ui.Options{Stdout: &out})
	in := map[string]string{"a<b": "esc \x1b[2J c1 \u009b31m del \x7f tab \t größer 機"}
	if err := u.JSON(in); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"a<b\": \"esc \\u001b[2J c1 \\u009b31m del \\u007f tab \\t größer 機\"\n}\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	var back map[string]string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["a<b"] != in["a<b"] {
		t.Errorf("reads back as %q, %v", back, err)
	}
	if err := ui.New(ui.Options{Stdout: failing{}}).JSON(1); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestConfirm(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want bool
		rest string
	}{
		{"y\n", true, ""},
		{" YES \r\nnext", true, "next"},
		{"\n", false, ""},
		{"no\n", false, ""},
		{"yesterday\n", false, ""},
		{"", false, ""},
	} {
		t.Run(fmt.Sprintf("%q", tt.in), func(t *testing.T) {
			t.Parallel()
			s := newScreen(t, 80, 24)
			in := strings.NewReader(tt.in)
			var out bytes.Buffer
			got, err := s.ui(ui.Options{Stdin: keyboard{in}, Stdout: &out}).Confirm(t.Context(), "destroy core-01?")
			if got != tt.want || err != nil {
				t.Errorf("got %v, %v, want %v", got, err, tt.want)
			}
			if !strings.HasPrefix(s.raw.String(), "destroy core-01? [y/N] ") || out.Len() > 0 {
				t.Errorf("asked %q on stderr, %q on stdout", s.raw.String(), out.String())
			}
			if rest, _ := io.ReadAll(in); string(rest) != tt.rest {
				t.Errorf("left %q of the input, want %q", rest, tt.rest)
			}
		})
	}
}

func TestConfirmNobody(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 80, 24)
	_, err := s.ui(ui.Options{Stdin: strings.NewReader("y\n")}).Confirm(t.Context(), "destroy core-01?")
	if !errors.Is(err, ui.ErrNotTerminal) {
		t.Errorf("got %v, want ErrNotTerminal", err)
	}
	if want := `"destroy core-01?" cannot be asked: standard input or error is not a terminal`; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if want := "use --yes to agree beforehand"; hint.Of(err) != want {
		t.Errorf("hint is %q, want %q", hint.Of(err), want)
	}
	if s.raw.Len() > 0 {
		t.Errorf("wrote %q", s.raw.String())
	}
}

func TestConfirmInterrupted(t *testing.T) {
	t.Parallel()
	interrupt := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	in, typing := io.Pipe()
	defer typing.Close()
	go func() {
		_, _ = typing.Write([]byte("y")) // is read once the question stands
		cancel(interrupt)
	}()
	s := newScreen(t, 80, 24)
	_, err := s.ui(ui.Options{Stdin: keyboard{in}}).Confirm(ctx, "destroy core-01?")
	if !errors.Is(err, interrupt) {
		t.Errorf("got %v, want the context's cause", err)
	}
	if want := "destroy core-01? [y/N] \n"; s.raw.String() != want {
		t.Errorf("wrote %q, want %q", s.raw.String(), want)
	}
}

func TestConfirmBrokenInput(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 80, 24)
	_, err := s.ui(ui.Options{Stdin: keyboard{iotest.ErrReader(os.ErrClosed)}}).Confirm(t.Context(), "sure?")
	if !errors.Is(err, os.ErrClosed) || err.Error() != "read answer: file already closed" {
		t.Errorf("got %v", err)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	const list = "which interface is network \"lan\" on?\n  1  eth0\n  2  en1: Wi-Fi (AirPort)\n"
	for _, tt := range []struct {
		in    string
		want  int
		wrote string
		err   string
	}{
		{"2\n", 1, list + "number [1]: ", ""},
		{"\n", 0, list + "number [1]: ", ""},
		{"", 0, list + "number [1]: \n", "read answer: EOF"},
		{"3\neth0\n2\n", 1, list + "number [1]: a number from 1 to 2: a number from 1 to 2: ", ""},
		{"x\ny\nz\n1\n", 0, list + "number [1]: a number from 1 to 2: a number from 1 to 2: ", `"z" is no number from 1 to 2`},
	} {
		t.Run(fmt.Sprintf("%q", tt.in), func(t *testing.T) {
			t.Parallel()
			s := newScreen(t, 80, 24)
			got, err := s.ui(ui.Options{Stdin: keyboard{strings.NewReader(tt.in)}}).Choose(t.Context(), `which interface is network "lan" on?`, []string{"eth0", "en1: Wi-Fi (AirPort)"})
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("got %v, want %s", err, tt.err)
				}
			} else if got != tt.want || err != nil {
				t.Errorf("got %v, %v, want %v", got, err, tt.want)
			}
			if s.raw.String() != tt.wrote {
				t.Errorf("wrote %q, want %q", s.raw.String(), tt.wrote)
			}
		})
	}
	s := newScreen(t, 80, 24)
	if _, err := s.ui(ui.Options{Stdin: strings.NewReader("1\n")}).Choose(t.Context(), "which?", []string{"a", "b"}); !errors.Is(err, ui.ErrNotTerminal) || s.raw.Len() > 0 {
		t.Errorf("got %v, wrote %q; want ErrNotTerminal", err, s.raw.String())
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 72, 24)
	no := errors.New("no")
	err := s.ui(ui.Options{}).Render(func(w io.Writer, width int, color bool) error {
		fmt.Fprintf(w, "%d %v\n", width, color)
		return no
	})
	if !errors.Is(err, no) || s.raw.String() != "72 true\n" {
		t.Errorf("got %v, wrote %q", err, s.raw.String())
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	lines := []ui.CheckLine{
		{Mark: ui.Fine, Name: "QEMU", Detail: "7.2.22"},
		{Mark: ui.Aside, Name: "libvirt", Detail: "not here"},
		{Mark: ui.Doubtful, Name: "acceleration", Detail: "no KVM: open /dev/kvm: permission denied; guests run under emulation", Advice: "sudo usermod -aG kvm $USER, then log in again"},
		{Mark: ui.Wrong, Name: "größer 機", Detail: "hostile\x1b[2J\nline", Advice: "one\ntwo"},
	}
	var pipe bytes.Buffer
	if err := ui.New(ui.Options{Stdout: &pipe}).Checks(lines); err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "checks.golden", pipe.String())
	for _, width := range []int{30, 60} {
		s := newScreen(t, width, 24)
		if err := s.ui(ui.Options{}).Checks(lines); err != nil {
			t.Fatal(err)
		}
		golden.Equal(t, fmt.Sprintf("checks_%d.golden", width), strings.Join(s.lines, "\n"))
		if width == 60 {
			golden.Equal(t, "checks_colours.golden", fmt.Sprintf("%q\n", s.raw.String()))
		}
	}
	if err := ui.New(ui.Options{Stdout: failing{}}).Checks(lines); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

// What up is about to do has a line for each change; those that are too long go
// on deeper than the next.
func TestNoticeOfSeveralLines(t *testing.T) {
	t.Parallel()
	for _, width := range []int{0, 40, 80} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			u := ui.New(ui.Options{
				Stderr: &out, Getenv: environ(),
				Terminal: func(any) (int, int, bool) { return width, 24, width > 0 },
				NoColor:  true,
			})
			u.Notice("%s", `plan: restart core-01
  memory from 1GiB to 2GiB
  forward web from unset to 127.0.0.1:18480 -> 80/tcp
  share code
    from host /home/me/projects/shop/code, guest /home/core/code, mount_options noatime
    to   host /home/me/projects/shop/source, guest /home/core/source, mount_options noatime,actimeo=3
  share docs from unset to nfs of /home/me/docs at /srv/docs, read-only`)
			golden.Equal(t, fmt.Sprintf("notice_lines_%d.golden", width), out.String())
		})
	}
}
