//go:build !windows

package agent_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
)

// A guest that was paused, or whose host slept, has the right time again.
func TestClock(t *testing.T) {
	t.Parallel()
	b, e, g := newBench(t), newEngine(t), newGuest(t)
	e.ahead = -time.Hour
	b.machine("core-01", e.port())
	before := time.Now()
	b.here(func(c *agent.Config) {
		c.Target = func(string, project.MachineState) (sshclient.Target, error) { return g.target, nil }
	})
	var set string
	b.until(func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.clocks) == 0 {
			return errors.New("its clock was not set")
		}
		set = g.clocks[0]
		return nil
	})
	seconds, err := strconv.ParseFloat(strings.TrimSpace(set), 64)
	check(t, err)
	at := time.UnixMicro(int64(seconds * 1e6))
	if at.Before(before.Add(-time.Millisecond)) || at.After(time.Now().Add(time.Millisecond)) {
		t.Errorf("set to %q: %s, between %s and now", set, at, before)
	}
}
