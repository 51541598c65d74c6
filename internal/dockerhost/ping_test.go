package dockerhost_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/dockerhost"
	"github.com/hostctl/hostctl/internal/wait"
)

// engine answers as dockerd 20.10 does.
func engine(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/_ping" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Api-Version", "1.41")
	fmt.Fprint(w, "OK")
}

// listen serves connections with handle, the way a forward does: host is what
// env would print.
func listen(t *testing.T, handle func(net.Conn)) (host string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go handle(c)
		}
	}()
	return "tcp://" + l.Addr().String()
}

// reset closes a connection with RST, as QEMU's user network does when nothing
// listens in the guest.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_, _ = c.Read(make([]byte, 1))
	_ = c.Close()
}

// hangUp closes a connection in order, but says nothing.
func hangUp(c net.Conn) {
	_, _ = c.Read(make([]byte, 4096))
	_ = c.Close()
}

func serve(t *testing.T, handler http.HandlerFunc) (host string) {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return "tcp://" + s.Listener.Addr().String()
}

func TestPing(t *testing.T) {
	t.Parallel()
	if err := dockerhost.Ping(t.Context(), serve(t, engine)); err != nil {
		t.Error(err)
	}
}

func TestPingFails(t *testing.T) {
	t.Parallel()
	closed := listen(t, hangUp)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "tcp://" + l.Addr().String()
	l.Close()

	for _, tt := range []struct {
		name, host, want string
		is               error
	}{
		{"refused", refused, "connection refused", nil},
		{"reset", listen(t, reset), "connection reset by peer", nil},
		{"closed", closed, "connection closed without an answer", nil},
		{"silent", listen(t, func(c net.Conn) { <-t.Context().Done(); c.Close() }), "no answer within 300ms", context.DeadlineExceeded},
		{"error of the engine", serve(t, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "containerd is not running\nmore", http.StatusInternalServerError)
		}), "answered 500 Internal Server Error: containerd is not running", nil},
		{"error without a word", serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}), "answered 503 Service Unavailable", nil},
		{"redirected elsewhere", serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/login", http.StatusFound)
		}), `answered 302 Found: <a href="/login">Found</a>.`, nil},
		{"another server", serve(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "OK")
		}), "answered, but not as a Docker engine does", nil},
		{"no host", "", `docker host "": want tcp://ADDRESS:PORT`, nil},
		{"socket", "unix:///var/run/docker.sock", `docker host "unix:///var/run/docker.sock": want tcp://ADDRESS:PORT`, nil},
		{"no port", "tcp://127.0.0.1", `docker host "tcp://127.0.0.1": want tcp://ADDRESS:PORT`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if tt.is != nil {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			err := dockerhost.Ping(ctx, tt.host)
			if err == nil || err.Error() != tt.want {
				t.Fatalf("got  %v\nwant %s", err, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
		})
	}
}

func TestPingCancelled(t *testing.T) {
	t.Parallel()
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	host := listen(t, func(net.Conn) { cancel(cause) })
	if err := dockerhost.Ping(ctx, host); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// A proxy of the environment is not on the way to a forward.
func TestPingIgnoresProxies(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	t.Setenv("http_proxy", "http://192.0.2.1:1")
	if err := dockerhost.Ping(t.Context(), serve(t, engine)); err != nil {
		t.Error(err)
	}
}

// The way of a guest that boots: nothing listens, then the daemon starts, then
// it answers.
func TestWaitReady(t *testing.T) {
	t.Parallel()
	var attempts atomic.Int32
	host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		switch attempts.Add(1) {
		case 1:
			_ = c.(*net.TCPConn).SetLinger(0)
		case 2: // closed without a word
		case 3:
			fmt.Fprint(c, "HTTP/1.1 503 Service Unavailable\r\n\r\n")
		default:
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK")
		}
	})
	if err := dockerhost.WaitReady(t.Context(), host); err != nil {
		t.Error(err)
	}
	if n := attempts.Load(); n != 4 {
		t.Errorf("%d attempts", n)
	}
}

func TestWaitReadyTimesOut(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := dockerhost.WaitReady(ctx, listen(t, reset))
	timeout, ok := errors.AsType[*wait.Error](err)
	if !ok || timeout.Last.Error() != "connection reset by peer" {
		t.Errorf("got %v", err)
	}
}

func TestWaitReadyRefusesHost(t *testing.T) {
	t.Parallel()
	err := dockerhost.WaitReady(t.Context(), "ssh://core@127.0.0.1")
	if err == nil || err.Error() != `docker host "ssh://core@127.0.0.1": want tcp://ADDRESS:PORT` {
		t.Errorf("got %v", err)
	}
}
