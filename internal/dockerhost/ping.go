// Package dockerhost knows what stands between a guest's Docker and the Docker
// client on this host: whether the API answers, and what a shell has to set to
// use it.
package dockerhost

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
)

const (
	// interval is the pause between two attempts of WaitReady. Once systemd
	// listens on Docker's behalf an attempt hangs until dockerd takes over and
	// answers, so readiness is seen at once and the pause costs nothing.
	interval = 200 * time.Millisecond

	// attempt limits one attempt of WaitReady. An emulated guest may need more
	// than a second for a ping; an attempt that was made before the guest had
	// a network hangs for longer than this.
	attempt = 5 * time.Second
)

// Ping asks the Docker engine at host, for instance "tcp://127.0.0.1:2375",
// whether it is there. It takes as long as ctx lets it. Its errors do not name
// the host.
func Ping(ctx context.Context, host string) error {
	u, err := url.Parse(host)
	if err != nil || u.Scheme != "tcp" || u.Port() == "" {
		return wait.Permanent(fmt.Errorf("docker host %q: want tcp://ADDRESS:PORT", host))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+u.Host+"/_ping", nil)
	if err != nil {
		return wait.Permanent(fmt.Errorf("docker host %q: %w", host, err))
	}
	// No proxy and no connection kept: this is the way a Docker client takes to
	// a forward, and the next attempt must not depend on the last.
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()

	start := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return readable(ctx, start, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode != http.StatusOK:
		return statusError(resp)
	case resp.Header.Get("Api-Version") == "":
		return errors.New("answered, but not as a Docker engine does")
	}
	return nil
}

// WaitReady pings host until it answers as a Docker engine. When ctx ends
// first, the error carries what the last ping said. A connection that QEMU's
// user network takes and then resets or closes means that nothing listens in
// the guest yet.
func WaitReady(ctx context.Context, host string) error {
	return wait.Until(ctx, interval, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		return Ping(ctx, host)
	})
}

// pingError says in few words why a ping failed.
type pingError struct {
	text string
	err  error
}

func (e *pingError) Error() string { return e.text }
func (e *pingError) Unwrap() error { return e.err }

// readable shortens the errors of net/http, which repeat the request and both
// addresses.
func readable(ctx context.Context, start time.Time, err error) error {
	var sys *os.SyscallError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Cause(ctx)
	// The dialer's own timer may be a little ahead of the context's.
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		deadline, _ := ctx.Deadline()
		return &pingError{fmt.Sprintf("no answer within %s", deadline.Sub(start).Round(100*time.Millisecond)), context.DeadlineExceeded}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &pingError{"connection closed without an answer", err}
	case errors.As(err, &sys):
		return &pingError{sys.Err.Error(), err} // "connection refused", "connection reset by peer"
	}
	return err
}

// statusError quotes the first line of an answer that is an error.
func statusError(resp *http.Response) error {
	line, _ := bufio.NewReader(io.LimitReader(resp.Body, 256)).ReadString('\n') // what came is what there is to quote
	if line = strings.TrimSpace(line); line != "" {
		return fmt.Errorf("answered %s: %s", resp.Status, line)
	}
	return fmt.Errorf("answered %s", resp.Status)
}
