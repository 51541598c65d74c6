package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
)

func (b *bench) plan() []lifecycle.MachinePlan {
	b.t.Helper()
	e, config := b.engine()
	plans, err := e.Plan(b.t.Context(), config.Machines, config.Machines)
	if err != nil {
		b.t.Fatal(err)
	}
	return plans
}

// lines returns "core-01 action; field from to takes; ..." of each machine.
func lines(plans []lifecycle.MachinePlan) string {
	var out []string
	for _, p := range plans {
		line := fmt.Sprintf("%s %s %s", p.Name, p.State, p.Action)
		for _, c := range p.Changes {
			line += fmt.Sprintf("; %s [%s] [%s] %s", c.Field, c.From, c.To, c.Takes)
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// What each change of the file takes, of a machine that runs and of one that
// is down.
func TestPlan(t *testing.T) {
	t.Parallel()
	const before = `
machine "core-01" {
  image  = "dockerhost"
  memory = "1GiB"
  disk   = "30GiB"
  forward "web" {
    guest        = 80
    host         = 18080
    auto_correct = true
  }
}
`
	for _, c := range []struct{ name, old, new, running, stopped string }{
		{"nothing", "", "", "none", "start"},
		{"cpus", `memory = "1GiB"`, "memory = \"1GiB\"\ncpus = 1", "restart; cpus [2] [1] restart", "start; cpus [2] [1] start"},
		{"memory", `"1GiB"`, `"2GiB"`, "restart; memory [1GiB] [2GiB] restart", "start; memory [1GiB] [2GiB] start"},
		{"accel", `memory = "1GiB"`, "memory = \"1GiB\"\naccel = \"tcg\"", "restart; accel [] [tcg] restart", "start; accel [] [tcg] start"},
		{"a larger disk", `"30GiB"`, `"40GiB"`, "restart; disk [30GiB] [40GiB] restart", "start; disk [30GiB] [40GiB] start"},
		{"a smaller disk", `"30GiB"`, `"20GiB"`, "replace; disk [30GiB] [20GiB] replace", "replace; disk [30GiB] [20GiB] replace"},
		{"image", `"dockerhost"`, `"other"`, "replace; image [dockerhost] [other] replace", "replace; image [dockerhost] [other] replace"},
		{"docker port", `memory = "1GiB"`, "memory = \"1GiB\"\ndocker {\nport = 2380\n}", "replace; docker port [2375] [2380] replace", "replace; docker port [2375] [2380] replace"},
		{"a forward's port", "18080", "18090",
			"update; forward web [127.0.0.1:18080 -> 80/tcp] [127.0.0.1:18090 -> 80/tcp] update",
			"start; forward web [127.0.0.1:18080 -> 80/tcp] [127.0.0.1:18090 -> 80/tcp] start"},
		{"a forward's name", `"web"`, `"www"`,
			"update; forward web [127.0.0.1:18080 -> 80/tcp] [] update; forward www [] [127.0.0.1:18080 -> 80/tcp] update",
			"start; forward web [127.0.0.1:18080 -> 80/tcp] [] start; forward www [] [127.0.0.1:18080 -> 80/tcp] start"},
		{"several", "\"dockerhost\"\n  memory = \"1GiB\"", "\"other\"\n  memory = \"2GiB\"",
			"replace; image [dockerhost] [other] replace; memory [1GiB] [2GiB] restart",
			"replace; image [dockerhost] [other] replace; memory [1GiB] [2GiB] start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, before)
			if got, want := lines(b.plan()), "core-01 not created create; machine [] [dockerhost, 2 cpus, 1GiB, disk of 30GiB] create"; got != want {
				t.Errorf("of nothing:\n got %s\nwant %s", got, want)
			}
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.edit(strings.NewReplacer(c.old, c.new).Replace(before))
			files, calls := tree(t, b.dir), len(b.fake.Calls())
			if got, want := lines(b.plan()), "core-01 running "+c.running; got != want {
				t.Errorf("running:\n got %s\nwant %s", got, want)
			}
			if diff := cmp.Diff(files, tree(t, b.dir)); diff != "" {
				t.Errorf("plan changed files:\n%s", diff)
			}
			if diff := cmp.Diff([]string{"status core-01"}, b.fake.Calls()[calls:]); diff != "" {
				t.Errorf("plan's calls (-want +got):\n%s", diff)
			}
			if err := b.fake.Kill("core-01"); err != nil {
				t.Fatal(err)
			}
			if got, want := lines(b.plan()), "core-01 stopped "+c.stopped; got != want {
				t.Errorf("stopped:\n got %s\nwant %s", got, want)
			}
		})
	}
}

// Machines that the file does not declare are listed, and left alone.
func TestPlanOfUndeclaredMachine(t *testing.T) {
	t.Parallel()
	b := newBench(t, cluster)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.edit(strings.Replace(cluster, "3", "2", 1))
	want := "core-01 running none\ncore-02 running none\ncore-03 running none"
	plans := b.plan()
	if got := lines(plans); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !plans[1].Declared || plans[2].Declared {
		t.Errorf("declared: %v", plans)
	}
	b.yes = true
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err := b.fake.Status(t.Context(), "core-03"); err != nil || s.State != provider.Running {
		t.Errorf("core-03 is %s, %v", s.State, err)
	}
	e, config := b.engine()
	some, err := e.Plan(t.Context(), config.Machines[:1], config.Machines)
	if err != nil || lines(some) != "core-01 running none" {
		t.Errorf("plan of one machine: %s, %v", lines(some), err)
	}
}

// A state that an older hostctl wrote knows fewer things: they are no reason to
// restart anything.
func TestPlanOfOldState(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.change(func(ms *project.MachineState) {
		ms.Spec.PublishPorts, ms.Spec.NoNAT, ms.Spec.Networks, ms.NICs = false, false, nil, nil
	})
	if got, want := lines(b.plan()), "core-01 running update; publish_ports [false] [true] update"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := lines(b.plan()), "core-01 running none"; got != want {
		t.Errorf("after up: got %s, want %s", got, want)
	}
}

func sorted(text string) string {
	all := strings.Split(text, "\n")
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// change edits the only machine's state.
func (b *bench) change(fn func(*project.MachineState)) {
	b.t.Helper()
	e, _ := b.engine()
	unlock, err := e.Project.Lock(b.t.Context(), "test", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	err = e.Project.Update(func(s *project.State) error {
		ms := s.Machines["core-01"]
		fn(&ms)
		s.Machines["core-01"] = ms
		return nil
	})
	if err := errors.Join(err, unlock()); err != nil {
		b.t.Fatal(err)
	}
}

func TestPlanFailsWithItsProvider(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	b.fake.FailOn(providertest.Status, boom)
	e, config := b.engine()
	if plans, err := e.Plan(t.Context(), config.Machines, config.Machines); !errors.Is(err, boom) || plans != nil {
		t.Errorf("got %v, %v", plans, err)
	}
}

// A provider that does not answer is for the steps to complain about: nobody is
// asked about a machine that nobody has seen.
func TestUpDoesNotAskInTheDark(t *testing.T) {
	t.Parallel()
	b := newBench(t, single)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.edit(strings.Replace(single, "dockerhost", "other", 1))
	boom := errors.New("boom")
	b.fake.FailOn(providertest.Status, boom)
	b.confirm = func(question string) (bool, error) {
		t.Errorf("asked %q", question)
		return true, nil
	}
	if err := b.up(t.Context()); !errors.Is(err, boom) {
		t.Errorf("up: %v, want boom", err)
	}
}

// A line names a handful of machines, not a thousand.
func TestPlanOfManyIsShort(t *testing.T) {
	t.Parallel()
	b := newBench(t, strings.Replace(cluster, "3", "12", 1))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "create core-01, core-02, core-03, core-04, core-05, core-06, core-07, core-08, core-09, core-10, and 2 more"
	if got := b.events.plans(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Restarts and replacements wait for the user's word, and are done together.
func TestUpAsks(t *testing.T) {
	t.Parallel()
	const two = `
machine "core-01" {
  image  = "dockerhost"
  memory = "1GiB"
}
machine "core-02" {
  image = "dockerhost"
}
`
	changed := strings.Replace(strings.Replace(two, "1GiB", "2GiB", 1), "}\nmachine", "forward \"web\" {\nguest = 80\nhost = 18180\nauto_correct = true\n}\n}\nmachine", 1)
	changed = strings.Replace(changed, "image = \"dockerhost\"", "image = \"other\"", 1)
	const question = "restart core-01 (memory); make core-02 (image) anew and lose all data on its disk?"
	left := "core-01 memory changed from 1GiB to 2GiB; hostctl up --yes applies it with a restart\n" +
		"core-02 image changed from dockerhost to other; hostctl up --yes applies it by making the machine anew, without its data"

	for _, c := range []struct {
		name    string
		yes     bool
		confirm func(string) (bool, error)
		applied bool
	}{
		{name: "nobody to ask"},
		{name: "no", confirm: func(string) (bool, error) { return false, nil }},
		{name: "yes", confirm: func(string) (bool, error) { return true, nil }, applied: true},
		{name: "--yes", yes: true, applied: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, two)
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := b.state().Machines
			b.edit(changed)
			b.events.clear()
			b.yes = c.yes
			if c.confirm != nil {
				b.confirm = func(q string) (bool, error) {
					if q != question {
						t.Errorf("asked %q\nwant  %q", q, question)
					}
					return c.confirm(q)
				}
			}
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			after := b.state().Machines
			d1, _ := b.fake.Domain("core-01")
			same := before["core-02"].DomainID == after["core-02"].DomainID
			if d1.Memory == 2048 != c.applied || same == c.applied {
				t.Errorf("core-01 has %d MiB, core-02 is the same: %v", d1.Memory, same)
			}
			if before["core-01"].DomainID != after["core-01"].DomainID {
				t.Error("core-01 was made anew")
			}
			if f, ok := forward(d1.Forwards, "web"); !ok || f.HostPort < 18180 {
				t.Errorf("forwards %v: web was not applied at once", d1.Forwards)
			}
			want, plan := left, "update core-01: forward web from unset to 127.0.0.1:18180 -> 80/tcp"
			if c.applied {
				want = ""
				plan = "restart core-01\n  memory from 1GiB to 2GiB\n  forward web from unset to 127.0.0.1:18180 -> 80/tcp\n" +
					"replace core-02: image from dockerhost to other"
				stayed(t, before["core-02"], after["core-02"])
			}
			// The machines finish in any order.
			if diff := cmp.Diff(want, sorted(b.events.notices())); diff != "" {
				t.Errorf("notices (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(plan, b.events.plans()); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			// Once more it only says what is left.
			b.confirm = nil
			b.events.clear()
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, sorted(b.events.notices())); diff != "" {
				t.Errorf("notices of the second up (-want +got):\n%s", diff)
			}
			if got := b.events.steps("core-01"); len(got) != 1 {
				t.Errorf("steps of the second up: %v", got)
			}
		})
	}
}

// An up that was killed while it replaced a machine is finished by the next.
func TestReplacementThatFails(t *testing.T) {
	t.Parallel()
	for _, op := range []providertest.Op{providertest.Stop, providertest.Delete, providertest.Create, providertest.Start, providertest.Check} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cluster)
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.edit(strings.Replace(cluster, "dockerhost", "other", 1))
			b.yes = true
			boom := errors.New("boom")
			b.fake.Before = func(_ context.Context, o providertest.Op, name string) error {
				if o == op && (name == "core-02" || name == "") {
					return boom
				}
				return nil
			}
			if err := b.up(t.Context()); op != providertest.Stop && !errors.Is(err, boom) {
				t.Fatalf("up: %v, want boom", err)
			}
			b.fake.Before = nil
			if err := b.up(t.Context()); err != nil {
				t.Fatal(err)
			}
			for name, ms := range b.state().Machines {
				if ms.Spec.Image != "other" || !ms.Ready {
					t.Errorf("%s: %+v", name, ms)
				}
			}
			if err := b.destroy(); err != nil {
				t.Fatal(err)
			}
			b.nothingLeft()
		})
	}
}

// What up is about to do is read line by line: values have commas of their own.
func TestUpAnnouncesChanges(t *testing.T) {
	t.Parallel()
	p := freePorts(t, 2)
	file := func(memory, folder, options string, blocks ...string) string {
		blocks = append([]string{`memory = "` + memory + `"`, fmt.Sprintf(`share "code" {
  host          = "%s"
  guest         = "/home/core/code"
  create        = true
  mount_options = [%s]
}`, folder, options)}, blocks...)
		return webMachine(blocks...)
	}
	b := newBench(t, single)
	b.withServing()
	b.edit(file("1GiB", b.dir+"/one", `"noatime"`))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.yes = true
	for _, c := range []struct{ file, want string }{
		{file("2GiB", b.dir+"/one", `"noatime"`), "restart core-01: memory from 1GiB to 2GiB"},
		{file("2GiB", b.dir+"/two", `"noatime"`), "update core-01: share code from host DIR/one to host DIR/two"},
		{file("3GiB", b.dir+"/one", `"noatime", "actimeo=3"`, "cpus = 1", web("web", p[0], 80), shareBlock("docs", "create = true", "readonly = true")),
			fmt.Sprintf(`restart core-01
  cpus from 2 to 1
  memory from 2GiB to 3GiB
  forward web from unset to 127.0.0.1:%d -> 80/tcp
  share code
    from host DIR/two, mount_options noatime
    to   host DIR/one, mount_options noatime,actimeo=3
  share docs from unset to nfs of DIR/docs at /srv/docs, read-only`, p[0])},
	} {
		b.events.clear()
		b.edit(c.file)
		if err := b.up(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(b.events.plans(), b.dir, "DIR")
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
