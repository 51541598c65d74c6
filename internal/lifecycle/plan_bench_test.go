package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider/providertest"
)

const fleet = `
network "hostonly" "dev" {
  cidr = "10.77.0.0/16"
}
machine "core" {
  count = %d
  image = "dockerhost"
  network "dev" {}
  forward "web" {
    guest        = 80
    host         = 20000 + index
    auto_correct = true
  }
}
`

// fleetOf is a project whose n machines are in the state and in the fake,
// without an up.
func fleetOf(t testing.TB, n int) (*bench, *lifecycle.Engine, *machinefile.Config) {
	t.Helper()
	b := newBench(t, fmt.Sprintf(fleet, n))
	e, config := b.engine()
	unlock, err := e.Project.Lock(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	err = e.Project.Update(func(s *project.State) error {
		for _, m := range config.Machines {
			s.Machines[m.Name] = lifecycle.Made(m)
			if err := b.fake.Create(t.Context(), lifecycle.MadeDomain(m)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, unlock()); err != nil {
		t.Fatal(err)
	}
	return b, e, config
}

// However many machines there are, each provider's answer is waited for once:
// all are asked at the same time, and once which networks there are.
func TestPlanAsksAllAtOnce(t *testing.T) {
	t.Parallel()
	const n = 200
	b, e, config := fleetOf(t, n)
	var asked sync.WaitGroup
	asked.Add(n)
	b.fake.Before = func(ctx context.Context, op providertest.Op, _ string) error {
		if op == providertest.Networks {
			return nil
		}
		if op != providertest.Status {
			return fmt.Errorf("plan asks for %s", op)
		}
		asked.Done()
		asked.Wait()
		return nil
	}
	calls := len(b.fake.Calls())
	plans, err := e.Plan(t.Context(), config.Machines, config.Machines)
	if err != nil || len(plans) != n {
		t.Fatal(len(plans), err)
	}
	if got := len(b.fake.Calls()) - calls; got != n+1 {
		t.Errorf("%d questions about %d machines and a network", got, n)
	}
	for i, p := range plans {
		if p.Name != config.Machines[i].Name || p.Action != lifecycle.StartAction || len(p.Changes) > 0 {
			t.Errorf("%+v", p)
		}
	}
}

// BenchmarkPlan is a plan as the command makes it: the file, the state and a
// thousand answers. Half of the machines differ from the file.
func BenchmarkPlan(b *testing.B) {
	bench, _, _ := fleetOf(b, 1000)
	bench.edit(strings.Replace(fmt.Sprintf(fleet, 1000), "image =", "cpus = index < 500 ? 1 : 2\n  image =", 1))
	for b.Loop() {
		e, config := bench.engine()
		plans, err := e.Plan(b.Context(), config.Machines, config.Machines)
		if err != nil || len(plans) != 1000 {
			b.Fatal(len(plans), err)
		}
	}
}
