package sshclient

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hostctl/hostctl/internal/hint"
)

func connect(t *testing.T, to Target) *Client {
	t.Helper()
	c, err := Dial(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestExec(t *testing.T) {
	t.Parallel()
	c := connect(t, newGuest(t).start())
	for _, tt := range []struct {
		command, in    string
		exit           int
		stdout, stderr string
	}{
		{command: "true"},
		{command: "exit 3", exit: 3},
		{command: "exit 255", exit: 255},
		{command: "echo out; echo err >&2", stdout: "out\n", stderr: "err\n"},
		{command: "cat; exit 1", in: "in", stdout: "in", exit: 1},
		{command: "kill -TERM $$", exit: 143},
		{command: "kill -KILL $$", exit: 137},
		{command: "printf 'no newline'", stdout: "no newline"},
		{command: Quote("printf", "%s|", "a b", "it's", "", "$HOME", "ü*"), stdout: "a b|it's||$HOME|ü*|"},
	} {
		t.Run(tt.command, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			exit, err := c.Exec(t.Context(), tt.command, Streams{strings.NewReader(tt.in), &stdout, &stderr})
			if err != nil || exit != tt.exit {
				t.Errorf("Exec() = %d, %v; want %d", exit, err, tt.exit)
			}
			if stdout.String() != tt.stdout || stderr.String() != tt.stderr {
				t.Errorf("stdout %q, stderr %q; want %q, %q", &stdout, &stderr, tt.stdout, tt.stderr)
			}
		})
	}
}

// Input that never ends, like a terminal's, does not hold up the end.
func TestExecWithPendingInput(t *testing.T) {
	t.Parallel()
	c := connect(t, newGuest(t).start())
	in, typing := io.Pipe()
	defer typing.Close()
	if exit, err := c.Exec(t.Context(), "exit 4", Streams{In: in}); err != nil || exit != 4 {
		t.Errorf("Exec() = %d, %v", exit, err)
	}
}

func TestExecPipesMuch(t *testing.T) {
	t.Parallel()
	c := connect(t, newGuest(t).start())
	data := make([]byte, 32<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if exit, err := c.Exec(t.Context(), "cat", Streams{In: bytes.NewReader(data), Out: sum}); err != nil || exit != 0 {
		t.Fatalf("Exec() = %d, %v", exit, err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Error("the data came back changed")
	}
}

type brokenPipe struct{ left int }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

// As in hostctl ssh -c yes | head.
func TestExecReaderGoesAway(t *testing.T) {
	t.Parallel()
	c := connect(t, newGuest(t).start())
	_, err := c.Exec(t.Context(), "yes", Streams{Out: &brokenPipe{100_000}})
	if want := "write the command's output: broken pipe"; !errors.Is(err, syscall.EPIPE) || err.Error() != want {
		t.Errorf("Exec() error = %v, want %s", err, want)
	}
}

func TestExecEndsWithContext(t *testing.T) {
	t.Parallel()
	c := connect(t, newGuest(t).start())
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	last := newLines()
	started := writes(func(p []byte) {
		if bytes.Contains(p, []byte("started")) {
			cancel(interrupted)
		}
		_, _ = last.Write(p)
	})
	start := time.Now()
	_, err := c.Exec(ctx, "trap 'echo told to end; exit 1' TERM; echo started; while :; do sleep 0.05; done", Streams{Out: started})
	if !errors.Is(err, interrupted) || time.Since(start) > 10*time.Second {
		t.Errorf("Exec() error = %v after %v", err, time.Since(start))
	}
	if got := last.String(); got != "started\ntold to end\n" {
		t.Errorf("output = %q", got)
	}
	// The connection serves the next command.
	if exit, err := c.Exec(t.Context(), "exit 5", Streams{}); err != nil || exit != 5 {
		t.Errorf("Exec() = %d, %v", exit, err)
	}
}

func TestExecConnectionLost(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := connect(t, g.start())
	_, err := c.Exec(t.Context(), "echo started; exec sleep 60", Streams{Out: writes(func([]byte) { g.hangUp() })})
	if !errors.Is(err, ErrLost) || err.Error() != "the connection to the guest was lost" {
		t.Errorf("Exec() error = %v, want ErrLost", err)
	}
	if _, err := c.Exec(t.Context(), "true", Streams{}); !errors.Is(err, ErrLost) {
		t.Errorf("next Exec() error = %v, want ErrLost", err)
	}
}

// The server is alive, and does not react: as after an out-of-memory kill.
func TestExecOnUnresponsiveGuest(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	asked := make(chan struct{})
	c := connect(t, g.listen(func(_ int, conn net.Conn) {
		_, channels, requests, err := ssh.NewServerConn(conn, g.config())
		if err != nil {
			t.Error(err)
			return
		}
		go ssh.DiscardRequests(requests)
		<-channels
		close(asked)
	}))
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	go func() {
		<-asked
		cancel(interrupted)
	}()
	_, err := c.Exec(ctx, "true", Streams{})
	if !errors.Is(err, interrupted) || err.Error() != "open a session: interrupted" {
		t.Errorf("Exec() error = %v, want the cause", err)
	}
}

type writes func([]byte)

func (w writes) Write(p []byte) (int, error) { w(p); return len(p), nil }

func TestForwardAgent(t *testing.T) {
	t.Parallel()
	keyring := agent.NewKeyring()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyring.Add(agent.AddedKey{PrivateKey: key, Comment: "the user's key"}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keyring, conn) }()
		}
	}()

	c := connect(t, newGuest(t).start())
	list := func() string {
		var out bytes.Buffer
		if _, err := c.Exec(t.Context(), "list agent keys", Streams{Out: &out}); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out.String())
	}
	if got := list(); got != "no agent" {
		t.Errorf("without asking for it: %q", got)
	}
	if err := c.ForwardAgent(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := list(); got != "the user's key" {
			t.Errorf("the guest sees %q", got)
		}
	}
}

func TestForwardAgentWithoutOne(t *testing.T) {
	t.Parallel()
	c := connect(t, newGuest(t).start())
	err := c.ForwardAgent(t.Context(), filepath.Join(t.TempDir(), "none"))
	if want := "forward the SSH agent: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("ForwardAgent() error = %v, want %s", err, want)
	}
	if got, want := hint.Of(err), "start one (ssh-agent) and see that SSH_AUTH_SOCK names its socket, or connect without it"; got != want {
		t.Errorf("hint = %q", got)
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a b", "it's", `\`, `"$HOME"`, "`id`", "a\nb", "-n", "~", "!x", "ü", "=", "a;b", "#"} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) {
			t.Skip("no argument holds a NUL")
		}
		out, err := exec.Command("sh", "-c", "printf '%s\\0' "+Quote(a, b)).Output()
		if err != nil || string(out) != a+"\x00"+b+"\x00" {
			t.Errorf("sh reads %q from %s, %v", out, Quote(a, b), err)
		}
	})
}

func TestQuoteIsReadable(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"":                              nil,
		"docker ps '--format=x'":        {"docker", "ps", "--format=x"},
		`echo 'it'\''s' ''`:             {"echo", "it's", ""},
		"ls -l /var/log /home/core@x:1": {"ls", "-l", "/var/log", "/home/core@x:1"},
	} {
		if got := Quote(args...); got != want {
			t.Errorf("Quote(%q) = %s, want %s", args, got, want)
		}
	}
}
