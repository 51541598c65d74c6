package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/sshclient"
)

// Only a guest that may yet answer is one to wait for.
func TestNotLoggedIn(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddrPort("127.0.0.1:2222")
	for name, tc := range map[string]struct {
		err  error
		code int
		hint string
	}{
		"another host key": {&sshclient.HostKeyError{Addr: addr, Want: "SHA256:a", Got: "SHA256:b"}, exitFailure,
			"either another program listens on 127.0.0.1:2222, or the guest's host keys were replaced from inside; nothing was sent to it"},
		"key refused": {hint.Wrap(sshclient.ErrAuth, "see there"), exitFailure, "see there"},
		"no answer":   {sshclient.ErrNoAnswer, exitNotReady, "hostctl up core waits until it answers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := notLoggedIn(t.Context(), "core", fmt.Errorf("ssh core@%s: %w", addr, tc.err))
			if !errors.Is(err, tc.err) || hint.Of(err) != tc.hint {
				t.Errorf("error %q with hint %q, want hint %q", err, hint.Of(err), tc.hint)
			}
			var stderr bytes.Buffer
			a := newApp(nil, streams{strings.NewReader(""), nil, &stderr}, nil)
			if code := a.exit(t.Context(), err); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
		})
	}
}
