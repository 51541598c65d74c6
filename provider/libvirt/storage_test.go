package libvirt

import (
	"testing"
	"time"
)

func TestProgressOfAnother(t *testing.T) {
	t.Parallel()
	var p progress
	start := time.Now()
	for _, c := range []struct {
		after time.Duration
		size  uint64
		want  bool
	}{
		{0, 0, false},
		{3 * time.Second, 0, false},
		{4 * time.Second, 1, false}, // in time
		{8 * time.Second, 1, false},
		{9 * time.Second, 1, true},
		{10 * time.Second, 0, false}, // begun anew
	} {
		if got := p.stalled(c.size, start.Add(c.after), 5*time.Second); got != c.want {
			t.Errorf("after %s with %d bytes: stalled is %v", c.after, c.size, got)
		}
	}
}
