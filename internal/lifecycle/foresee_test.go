package lifecycle_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/network"
)

var hostMemory = regexp.MustCompile(`this host has [0-9.]+\wiB`)

// foreseen returns "core-01: error (hint)" of each problem, without what this
// computer makes of it.
func (b *bench) foreseen() string {
	b.t.Helper()
	var out []string
	for _, p := range b.plan() {
		for _, problem := range p.Problems {
			line := p.Name + ": " + problem.Error
			if problem.Hint != "" {
				line += " (" + problem.Hint + ")"
			}
			out = append(out, hostMemory.ReplaceAllString(strings.ReplaceAll(line, b.dir+"/", ""), "this host has less"))
		}
	}
	return strings.Join(out, "\n")
}

// What up would refuse is in the plan, all of it.
func TestPlanForesees(t *testing.T) {
	t.Parallel()
	bridged := "network \"bridged\" \"lan\" {\n  %s\n}\n" + webMachine(`network "lan" {}`)
	for _, c := range []struct {
		name, file string
		have       []string // interfaces
		want       string
	}{
		{"nothing", webMachine(shareBlock("made", "create = true")), nil, ""},
		{"folders", webMachine(shareBlock("code"), shareBlock("made", "create = true"), shareBlock("docs")), nil,
			`core-01: share "code": code does not exist (make it, or have it made with create = true: machine.hcl line 4)
core-01: share "docs": docs does not exist (make it, or have it made with create = true: machine.hcl line 14)`},
		{"memory and a folder", webMachine(`memory = "64TiB"`, shareBlock("code")), nil,
			`core-01: memory: machine "core-01" asks for 64TiB, and this host has less (choose less: machine.hcl line 3)
core-01: share "code": code does not exist (make it, or have it made with create = true: machine.hcl line 5)`},
		{"interface", fmt.Sprintf(bridged, `interface = ["br7", "br8"]`), []string{"eth0", "eth1"},
			`core-01: network "lan": this host has no interface "br7" or "br8" (set interface to "eth0" or "eth1": machine.hcl line 2)`},
		{"interface that up asks for", fmt.Sprintf(bridged, ""), []string{"eth0", "eth1"}, ""},
		{"no interface", fmt.Sprintf(bridged, ""), nil,
			`core-01: network "lan": this host has no interface that a bridged network can use (use a host-only network, or leave the network out: machine.hcl line 1)`},
		{"subnet", "network \"hostonly\" \"dev\" {\n  cidr = \"10.8.0.0/24\"\n}\n" + webMachine(`network "dev" {}`), nil,
			`core-01: network "dev": 10.8.0.0/24, the subnet of the network "dev", overlaps route through tun0 (10.8.0.0/16) (use another subnet, such as "172.28.8.0/24": machine.hcl line 2)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.file)
			b.withInterfaces(c.have...)
			b.subnets = []network.UsedSubnet{{Prefix: netip.MustParsePrefix("10.8.0.0/16"), By: "route through tun0"}}
			b.choose = func(string, []string) (int, error) {
				t.Error("plan asks")
				return 0, nil
			}
			if diff := cmp.Diff(c.want, b.foreseen()); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			b.nothingLeft()
			if len(b.events.all) > 0 {
				t.Errorf("plan reports %+v", b.events.all)
			}
			if c.want == "" {
				return
			}
			if _, ok := errors.AsType[*lifecycle.ConfigError](b.up(t.Context())); !ok {
				t.Error("up does not refuse it")
			}
		})
	}
}

// What is wrong for several machines has its place in the file once.
func TestPlanForeseesOnceForAll(t *testing.T) {
	t.Parallel()
	b := newBench(t, bridgedFile)
	b.withInterfaces()
	plans := b.plan()
	if len(plans) != 2 || len(plans[0].Problems) != 1 || len(plans[1].Problems) != 1 {
		t.Fatalf("plans %+v", plans)
	}
	one, other := plans[0].Problems[0], plans[1].Problems[0]
	if one.Err == nil {
		one, other = other, one
	}
	if one.Err == nil || other.Err != nil || other.Error != `network "lan": refused, as for another machine` {
		t.Errorf("problems %+v and %+v", one, other)
	}
}

// What runs keeps its networks, and misses its folders.
func TestPlanOfWhatRunsForesees(t *testing.T) {
	t.Parallel()
	b := newBench(t, "network \"bridged\" \"lan\" {\n  interface = \"br7\"\n}\n"+webMachine(`network "lan" {}`, shareBlock("code", "create = true")))
	host := b.withInterfaces("br7")
	b.withServing()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	host.have = nil
	if got := b.foreseen(); got != "" {
		t.Errorf("running, without its interface: %s", got)
	}
	if err := os.Remove(filepath.Join(b.dir, "code")); err != nil {
		t.Fatal(err)
	}
	b.edit(strings.Replace("network \"bridged\" \"lan\" {\n  interface = \"br7\"\n}\n"+webMachine(`network "lan" {}`, shareBlock("code")), "image", "memory = \"2GiB\"\n  image", 1))
	want := `core-01: network "lan": interface br7, which it was on, is gone (use a host-only network, or leave the network out: machine.hcl line 2)
core-01: share "code": code does not exist (make it, or have it made with create = true: machine.hcl line 9)`
	if diff := cmp.Diff(want, b.foreseen()); diff != "" {
		t.Errorf("about to be restarted (-want +got):\n%s", diff)
	}
}
