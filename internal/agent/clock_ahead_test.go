package agent

import (
	"testing"
	"time"
)

// A clock is not wrong by what it leaves out, nor for an answer that takes long.
func TestAhead(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		shows         time.Duration // after noon, in whole seconds
		before, after time.Duration
		want          time.Duration
	}{
		{0, 0, 0, 0},
		{0, 999 * time.Millisecond, 999 * time.Millisecond, 0},
		{0, 0, 10 * time.Second, 0},
		{9 * time.Second, 0, 10 * time.Second, 0},
		{12 * time.Second, 0, 10 * time.Second, 0},
		{13 * time.Second, 0, 10 * time.Second, 3 * time.Second},
		{-3 * time.Second, 0, 10 * time.Second, 0},
		{-4 * time.Second, 0, 10 * time.Second, -3 * time.Second},
		{-time.Hour, 0, time.Second, time.Second - time.Hour},
		{time.Hour, 0, time.Second, time.Hour - time.Second},
	} {
		if got := ahead(noon.Add(c.shows), noon.Add(c.before), noon.Add(c.after)); got != c.want {
			t.Errorf("%s between %s and %s: %s, want %s", c.shows, c.before, c.after, got, c.want)
		}
	}
}
