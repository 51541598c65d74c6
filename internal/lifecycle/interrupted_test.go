package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
)

// Wherever an up that changes everything at once is interrupted, the next one
// finishes it, and destroy leaves nothing, wherever that is interrupted.
func TestInterruptedAnywhere(t *testing.T) {
	t.Parallel()
	p := freePorts(t, 3)
	before := `
network "hostonly" "dev" {
  cidr = "172.28.8.0/24"
}
machine "kept" {
  image = "dockerhost"
  network "dev" {}
` + web("one", p[0], 80) + `
}
machine "restarted" {
  image  = "dockerhost"
  memory = "1GiB"
}
machine "replaced" {
  image = "dockerhost"
  network "dev" {}
}
`
	after := strings.NewReplacer(
		web("one", p[0], 80), web("one", p[1], 80)+"\n"+web("two", p[2], 81),
		"1GiB", "2GiB",
		"machine \"replaced\" {\n  image = \"dockerhost\"", "machine \"replaced\" {\n  image = \"other\"",
	).Replace(before) + `
machine "new" {
  image = "dockerhost"
  network "dev" {}
}
`
	// How many calls there are, the last one in vain.
	last := int64(1)
	b := newBench(t, before)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.edit(after)
	b.yes = true
	calls := len(b.fake.Calls())
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	last += int64(len(b.fake.Calls()) - calls)

	for n := int64(1); n <= last; n++ {
		t.Run(fmt.Sprintf("at call %d", n), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, before)
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.edit(after)
			b.yes = true
			err := b.interrupted(n, func() error { return b.up(t.Context()) })
			if err != nil && !errors.Is(err, errKilled) {
				t.Fatalf("up: %v, want %v", err, errKilled)
			}
			for range 2 { // the second one checks that nothing is left to do
				b.events.clear()
				if err := b.up(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := b.events.plans(); got != "" {
				t.Errorf("after all there is %s", got)
			}
			for _, plan := range b.plan() {
				if plan.Action != lifecycle.NoAction || plan.State != provider.Running {
					t.Errorf("%s is %s and needs %s", plan.Name, plan.State, plan.Action)
				}
			}
			state := b.state()
			for name, ms := range state.Machines {
				live, err := b.fake.LiveForwards(t.Context(), name)
				if err != nil || len(live) != len(ms.Forwards) {
					t.Errorf("%s forwards %v, %v; state %v", name, live, err, ms.Forwards)
				}
				for _, f := range ms.Forwards {
					if !slices.Contains(live, f) {
						t.Errorf("%s: %s is not in force", name, f)
					}
				}
			}
			if got := state.Machines["replaced"].NICs[0].Address.String(); got != "172.28.8.3" {
				t.Errorf("made anew, the machine has %s", got)
			}
			addresses := []string{}
			for _, a := range b.addresses() {
				addresses = append(addresses, a[strings.Index(a, " ")+1:])
			}
			slices.Sort(addresses)
			if len(slices.Compact(addresses)) != 3 {
				t.Errorf("addresses %v", b.addresses())
			}
			for name, ms := range state.Machines {
				if len(ms.NICs) > 0 && len(ms.Names) != 3 {
					t.Errorf("%s knows %v", name, ms.Names)
				}
			}
			if err := b.interrupted(n, b.destroy); err != nil && !errors.Is(err, errKilled) {
				t.Errorf("destroy: %v, want %v", err, errKilled)
			}
			if err := b.destroy(); err != nil {
				t.Fatal(err)
			}
			b.nothingLeft()
		})
	}
}

var errKilled = errors.New("killed")

// interrupted runs an operation that gets nowhere from its nth call of the
// provider on.
func (b *bench) interrupted(n int64, operation func() error) error {
	var calls atomic.Int64
	b.fake.Before = func(context.Context, providertest.Op, string) error {
		if calls.Add(1) >= n {
			return errKilled
		}
		return nil
	}
	defer func() { b.fake.Before = nil }()
	return operation()
}
