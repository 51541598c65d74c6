package sshclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/wait"
)

func TestDial(t *testing.T) {
	t.Parallel()
	c, err := Dial(t.Context(), newGuest(t).start())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	const refusedHint = "the key of this project was not put into the guest, or was removed inside it: see /home/core/.ssh in the guest, or destroy the machine and make it again"
	for _, tt := range []struct {
		name   string
		change func(*guest, *Target)
		is     error
		want   func(*guest, Target) string
		hint   string
	}{{
		name:   "another user's key",
		change: func(_ *guest, to *Target) { to.Signer = newSigner(t) },
		is:     ErrAuth,
		want:   func(*guest, Target) string { return "the guest refused the key" },
		hint:   refusedHint,
	}, {
		name:   "unknown user",
		change: func(g *guest, to *Target) { to.User = "root" },
		is:     ErrAuth,
		want:   func(*guest, Target) string { return "the guest refused the key" },
		hint:   strings.ReplaceAll(refusedHint, "core", "root"),
	}, {
		name:   "another host key",
		change: func(_ *guest, to *Target) { to.HostKey = newSigner(t).PublicKey() },
		want: func(g *guest, to Target) string {
			return fmt.Sprintf("the SSH server is not the guest: its host key is %s, not %s",
				ssh.FingerprintSHA256(g.hostKey.PublicKey()), ssh.FingerprintSHA256(to.HostKey))
		},
		hint: "either another program listens on ADDR, or the guest's host keys were replaced from inside; nothing was sent to it",
	}, {
		name: "no host key of the kind",
		change: func(g *guest, to *Target) {
			g.hostKey = ecdsaSigner(t)
		},
		want: func(g *guest, to Target) string {
			return "the SSH server is not the guest: it has no host key like " + ssh.FingerprintSHA256(to.HostKey)
		},
		hint: "either another program listens on ADDR, or the guest's host keys were replaced from inside; nothing was sent to it",
	}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			started := make(chan struct{})
			to := g.listen(func(_ int, conn net.Conn) { <-started; g.serve(conn) })
			tt.change(g, &to)
			close(started)
			_, err := Dial(t.Context(), to)
			if want := fmt.Sprintf("ssh %s@%s: %s", to.User, to.Addr, tt.want(g, to)); err == nil || err.Error() != want {
				t.Fatalf("Dial() error = %v\nwant %s", err, want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("Dial() error is not %v", tt.is)
			}
			var key *HostKeyError
			if tt.is == nil && !errors.As(err, &key) {
				t.Errorf("Dial() error is no HostKeyError")
			}
			if got := hint.Of(err); got != strings.ReplaceAll(tt.hint, "ADDR", to.Addr.String()) {
				t.Errorf("hint = %q", got)
			}
		})
	}
}

func TestDialNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := newGuest(t).target(netip.MustParseAddrPort(l.Addr().String()))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Dial(t.Context(), to)
	if want := "ssh " + to.String() + ": connection refused"; err == nil || err.Error() != want {
		t.Errorf("Dial() error = %v, want %s", err, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = Wait(ctx, to)
	if want := "timed out after 0s: ssh " + to.String() + ": connection refused"; !errors.Is(err, wait.ErrTimeout) || err.Error() != want {
		t.Errorf("Wait() error = %v, want %s", err, want)
	}
}

func TestDialNobodyAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		then func(net.Conn)
		want string
	}{
		{"hangs", func(net.Conn) {}, "i/o timeout"},
		{"closes", func(c net.Conn) { _ = c.Close() }, "EOF"},
		{"resets", func(c net.Conn) {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}, "connection reset by peer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			to := newGuest(t).listen(func(_ int, conn net.Conn) { tt.then(conn) })
			_, err := dial(t.Context(), to, 100*time.Millisecond)
			if errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, ErrNoAnswer) {
				return // reset before the connection was seen to stand
			}
			if want := "ssh " + to.String() + ": no SSH server answers: " + tt.want; !errors.Is(err, ErrNoAnswer) || err.Error() != want {
				t.Errorf("dial() error = %v, want %s", err, want)
			}
		})
	}
}

// Whatever the server does or leaves undone, the end of the context ends Dial.
func TestDialEndsWithContext(t *testing.T) {
	t.Parallel()
	for _, says := range []string{"", "SSH-2.0-slow\r\n"} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			connected := make(chan struct{})
			to := newGuest(t).listen(func(_ int, conn net.Conn) {
				_, _ = io.WriteString(conn, says)
				close(connected)
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			interrupted := errors.New("interrupted")
			go func() {
				<-connected
				cancel(interrupted)
			}()
			start := time.Now()
			_, err := Dial(ctx, to)
			if want := "ssh " + to.String() + ": interrupted"; !errors.Is(err, interrupted) || err.Error() != want {
				t.Errorf("Dial() error = %v, want %s", err, want)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("Dial() took %v", d)
			}
		})
	}
}

// What the forward of a booting guest does, in turn.
func TestWaitForBootingGuest(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	var served atomic.Int32
	to := g.listen(func(n int, conn net.Conn) {
		switch n {
		case 1: // hangs
		case 2:
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		case 3:
			_ = conn.Close()
		case 4: // breaks in the handshake
			_, _ = io.WriteString(conn, "SSH-2.0-booting\r\n")
			_ = conn.Close()
		default:
			served.Add(1)
			g.serve(conn)
		}
	})
	if err := Wait(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if n := served.Load(); n != 1 {
		t.Errorf("logged in %d times", n)
	}
}

func TestWaitDoesNotWaitForAnotherHostKey(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	var tries atomic.Int32
	to := g.listen(func(_ int, conn net.Conn) { tries.Add(1); g.serve(conn) })
	to.HostKey = newSigner(t).PublicKey()
	err := Wait(t.Context(), to)
	var key *HostKeyError
	if !errors.As(err, &key) || tries.Load() != 1 {
		t.Errorf("Wait() error = %v after %d attempts", err, tries.Load())
	}
}

func TestWaitForAuthorization(t *testing.T) {
	t.Parallel()
	refused := fmt.Errorf("ssh core@127.0.0.1:2222: %w", ErrAuth)
	t.Run("comes", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			err := waitFor(t.Context(), func(context.Context, time.Duration) error {
				if time.Since(start) < 20*time.Second {
					return refused
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("does not come", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			err := waitFor(t.Context(), func(context.Context, time.Duration) error { return refused })
			if d := time.Since(start); !errors.Is(err, ErrAuth) || d < authGrace || d > authGrace+time.Second {
				t.Errorf("error = %v after %v, want it after %v", err, d, authGrace)
			}
		})
	})
}

func TestWaitListensLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		if err := waitFor(t.Context(), func(_ context.Context, answer time.Duration) error {
			times = append(times, answer)
			if len(times) == 9 {
				return nil
			}
			return ErrNoAnswer
		}); err != nil {
			t.Fatal(err)
		}
		if times[0] != time.Second || times[1] != 1500*time.Millisecond || times[8] != answerTimeout {
			t.Errorf("listened for %v", times)
		}
	})
}

// A guest that stops answering, as a paused or crashed one does, while the
// connection stands.
func TestSilentGuestIsNoticed(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	synctest.Test(t, func(t *testing.T) {
		here, there := bufferedPipe()
		go func() {
			_, channels, requests, err := ssh.NewServerConn(there, g.config())
			if err != nil {
				return // the client says why
			}
			go func() {
				first := true
				for req := range requests {
					if first && req.WantReply {
						_ = req.Reply(false, nil)
					}
					first = false
				}
			}()
			for nc := range channels {
				_, requests, err := nc.Accept()
				if err != nil {
					t.Error(err)
				}
				go func() {
					for req := range requests {
						_ = req.Reply(true, nil)
					}
				}()
			}
		}()
		start := time.Now()
		conn, err := greet(t.Context(), here, time.Now().Add(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		c, err := login(t.Context(), conn, g.target(netip.MustParseAddrPort("127.0.0.1:2222")))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Exec(t.Context(), "sleep 1000", Streams{})
		if !errors.Is(err, ErrLost) {
			t.Errorf("Exec() error = %v, want ErrLost", err)
		}
		if d, want := time.Since(start), 2*keepAliveInterval+keepAliveTimeout; d != want {
			t.Errorf("noticed after %v, want %v", d, want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A connection that nobody hears does not hold Connect up.
func TestConnectBesideSilence(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	target := g.listen(func(n int, conn net.Conn) {
		if n > 2 {
			g.serve(conn)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), answerTimeout-time.Second)
	defer cancel()
	c, err := Connect(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if exit, err := c.Exec(ctx, "exit 3", Streams{}); exit != 3 || err != nil {
		t.Errorf("exit %d, %v", exit, err)
	}
	g.hangUp()
	c.AwaitEnd()
}
