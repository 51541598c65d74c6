package lifecycle_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vincent-petithory/dataurl"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
)

const lan = `
network "hostonly" "dev" {
  cidr = "172.28.8.0/24"
}
machine "core" {
  count = 3
  image = "dockerhost"
  network "dev" {}
}
`

// addresses returns "core-01 172.28.8.2" of each machine and network.
func (b *bench) addresses() []string {
	b.t.Helper()
	out := []string{}
	state := b.state()
	for _, name := range b.names() {
		for _, nic := range state.Machines[name].NICs {
			where := nic.Address.String()
			if nic.Interface != "" {
				where = nic.Interface
			}
			out = append(out, name+" "+where)
		}
	}
	return out
}

// files returns the files that a domain's Ignition writes, and its units.
func (b *bench) files(name string) map[string]string {
	b.t.Helper()
	d, err := b.fake.Domain(name)
	if err != nil {
		b.t.Fatal(err)
	}
	var config struct {
		Storage struct {
			Files []struct {
				Path     string
				Contents struct{ Source, Compression string }
			}
		}
		Systemd struct {
			Units []struct{ Name, Contents string }
		}
	}
	if err := json.Unmarshal(d.Ignition.Config, &config); err != nil {
		b.t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range config.Storage.Files {
		d, err := dataurl.DecodeString(f.Contents.Source)
		if err != nil {
			b.t.Fatal(err)
		}
		var r io.Reader = bytes.NewReader(d.Data)
		if f.Contents.Compression == "gzip" {
			if r, err = gzip.NewReader(r); err != nil {
				b.t.Fatal(err)
			}
		}
		text, err := io.ReadAll(r)
		if err != nil {
			b.t.Fatal(err)
		}
		out[f.Path] = string(text)
	}
	for _, u := range config.Systemd.Units {
		out[u.Name] = u.Contents
	}
	return out
}

func TestUpOnHostOnlyNetwork(t *testing.T) {
	t.Parallel()
	b := newBench(t, lan)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"core-01 172.28.8.2", "core-02 172.28.8.3", "core-03 172.28.8.4"}
	if diff := cmp.Diff(want, b.addresses()); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	steps := []string{
		"check host", "fetch image", "assign ports", "render config", "make networks", "create machine",
		"start machine", "wait for SSH", "wait for Docker", "done",
	}
	if diff := cmp.Diff(steps, b.events.steps("core-02")); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	ensured := 0
	for _, call := range b.fake.Calls() {
		if call == "ensure-network dev" {
			ensured++
		}
	}
	if ensured != 1 {
		t.Errorf("the network was made %d times", ensured)
	}
	ms := b.state().Machines["core-02"]
	d, err := b.fake.Domain("core-02")
	if err != nil {
		t.Fatal(err)
	}
	nic := provider.NIC{
		Network: "dev", MAC: network.MAC(ms.DomainID, "dev").String(), Address: netip.MustParseAddr("172.28.8.3"),
		HostOnly: &provider.HostOnly{Name: "dev", CIDR: netip.MustParsePrefix("172.28.8.0/24")},
	}
	if len(d.NICs) != 1 || d.NoNAT || d.NICs[0].MAC != nic.MAC || d.NICs[0].Address != nic.Address || *d.NICs[0].HostOnly != *nic.HostOnly {
		t.Errorf("domain's cards %+v, want %+v", d.NICs, nic)
	}
	file := b.files("core-02")["/etc/systemd/network/10-dev.network"]
	if !strings.Contains(file, "MACAddress="+nic.MAC+"\n") || !strings.Contains(file, "Address=172.28.8.3/24\n") {
		t.Errorf("the card's file in the guest:\n%s", file)
	}
	if len(b.guests.hosts) > 0 {
		t.Errorf("names were written over SSH although Ignition did: %v", b.guests.hosts)
	}
	names := []project.Name{
		{Name: "core-01", Address: netip.MustParseAddr("172.28.8.2")},
		{Name: "core-02", Address: netip.MustParseAddr("172.28.8.3")},
		{Name: "core-03", Address: netip.MustParseAddr("172.28.8.4")},
	}
	if !slices.Equal(ms.Names, names) {
		t.Errorf("names %v, want %v", ms.Names, names)
	}
	// Once more it only looks.
	b.events.clear()
	before := tree(t, b.dir)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"done"}, b.events.steps("core-02")); diff != "" {
		t.Errorf("steps of the second up (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, tree(t, b.dir)); diff != "" {
		t.Errorf("the second up changed files:\n%s", diff)
	}
}

// Declared addresses are kept free for those who declare them, and an assigned
// one stays with its machine, whatever happens to it or the others.
func TestAddressesStay(t *testing.T) {
	t.Parallel()
	const file = `
network "hostonly" "dev" {
  cidr = "172.28.8.0/24"
}
machine "core" {
  count = 2
  image = "dockerhost"
  network "dev" {}
}
machine "db" {
  image = "dockerhost"
  network "dev" {
    address = "172.28.8.2"
  }
}
`
	want := []string{"core-01 172.28.8.3", "core-02 172.28.8.4", "db 172.28.8.2"}
	b := newBench(t, file)
	check := func(when string) {
		t.Helper()
		if diff := cmp.Diff(want, b.addresses()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after up")
	e, config := b.engine()
	if err := e.Reload(t.Context(), config.Machines, config.Machines); err != nil {
		t.Fatal(err)
	}
	check("after reload")
	b.yes = true
	b.edit(strings.Replace(file, "dockerhost", "other", 1))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("made anew")
	// The network grows around them.
	b.edit(strings.Replace(strings.Replace(file, "dockerhost", "other", 1), "172.28.8.0/24", "172.28.8.0/23", 1))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("in a larger subnet")
}

// Whichever operation on networks fails, up goes on from there, and destroy
// leaves nothing.
func TestNetworksConvergeAfterAnyFailure(t *testing.T) {
	t.Parallel()
	for _, op := range []providertest.Op{
		providertest.EnsureNetwork, providertest.Networks, providertest.Create, providertest.Start, providertest.Delete, providertest.DeleteNetwork,
	} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, lan)
			boom := errors.New("boom")
			if op == providertest.Networks {
				// Before a project has anything, nobody is asked for it.
				b.fake.Before = func(_ context.Context, o providertest.Op, _ string) error {
					if o == providertest.Networks && b.state().ID == "" {
						return project.ErrNoState
					}
					return nil
				}
				if err := b.up(t.Context()); err != nil {
					t.Fatal(err)
				}
				e, _ := b.engine()
				if err := e.Halt(t.Context(), b.names()); err != nil {
					t.Fatal(err)
				}
				b.fake.Before = nil
			}
			b.fake.FailOn(op, boom)
			err := b.up(t.Context())
			if op != providertest.Delete && op != providertest.DeleteNetwork {
				if !errors.Is(err, boom) || strings.Count(err.Error(), "boom") != map[providertest.Op]int{
					providertest.EnsureNetwork: 1, providertest.Networks: 1, providertest.Create: 3, providertest.Start: 3,
				}[op] {
					t.Fatalf("up: %v, want boom, once for a network", err)
				}
				for _, name := range []string{"core-01", "core-02", "core-03"} {
					if got := b.events.steps(name); len(got) == 0 || got[len(got)-1] != "failed" {
						t.Errorf("%s ends with %v, want failed", name, got)
					}
				}
				b.fake.FailOn(op, nil)
				err = b.up(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if op == providertest.Networks || op == providertest.Delete || op == providertest.DeleteNetwork {
				b.fake.FailOn(op, boom)
				if err := b.destroy(); !errors.Is(err, boom) {
					t.Fatalf("destroy: %v, want boom", err)
				}
				b.fake.FailOn(op, nil)
			}
			if err := b.destroy(); err != nil {
				t.Fatal(err)
			}
			b.nothingLeft()
		})
	}
}

// A network goes with the last machine that is on it, and the agent with the
// last of the project.
func TestDestroyRemovesUnusedNetworks(t *testing.T) {
	t.Parallel()
	b := newBench(t, lan+`
network "hostonly" "db" {
  cidr = "172.28.9.0/24"
}
machine "db" {
  image = "dockerhost"
  network "db" {}
}
`)
	agent := &agentFake{b: b}
	b.agent = agent
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ machines, left string }{
		{"core-01", "db dev"}, {"db", "dev"}, {"core-02 core-03", ""},
	} {
		if agent.stops > 0 {
			t.Error("the agent was ended before the last machine")
		}
		e, _ := b.engine()
		if err := e.Destroy(t.Context(), strings.Fields(c.machines)); err != nil {
			t.Fatal(err)
		}
		left, err := b.fake.Networks(t.Context())
		if err != nil || strings.Join(slices.Sorted(maps.Keys(left)), " ") != c.left {
			t.Errorf("without %s: %v, %v; want %s", c.machines, left, err, c.left)
		}
	}
	b.nothingLeft()
	if agent.stops != 1 {
		t.Errorf("the agent was ended %d times", agent.stops)
	}
}

// A network that somebody removed is made again, also under machines that run.
func TestNetworkDeletedBehindOurBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, lan)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.fake.LoseNetwork("dev"); err != nil {
		t.Fatal(err)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := b.fake.Networks(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("networks: %v, %v", got, err)
	}
}

// Names follow the machines: those that run are told at once, others when they
// boot.
func TestNames(t *testing.T) {
	t.Parallel()
	b := newBench(t, strings.Replace(lan, "count = 3", "count = 2", 1))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, _ := b.engine()
	if err := e.Halt(t.Context(), []string{"core-02"}); err != nil {
		t.Fatal(err)
	}
	b.edit(lan)
	b.guests.hosts = nil
	b.guests.silent = 1 // and is asked again
	e, config := b.engine()
	if err := e.Up(t.Context(), config.Machines[2:], config.Machines); err != nil {
		t.Fatal(err)
	}
	block := "# BEGIN hostctl: machines of the project\n172.28.8.2 core-01\n172.28.8.3 core-02\n172.28.8.4 core-03\n# END hostctl\n"
	want := map[string]string{b.state().Machines["core-01"].SSH().HostAddr().String(): block}
	if diff := cmp.Diff(want, b.guests.hosts); diff != "" {
		t.Errorf("told over SSH (-want +got):\n%s", diff)
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	want[b.state().Machines["core-02"].SSH().HostAddr().String()] = block
	if diff := cmp.Diff(want, b.guests.hosts); diff != "" {
		t.Errorf("told over SSH (-want +got):\n%s", diff)
	}
	// Nothing is left to tell.
	b.guests.hosts = nil
	b.events.clear()
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(b.guests.hosts) > 0 || len(b.events.steps("core-01")) != 1 {
		t.Errorf("told again: %v, %v", b.guests.hosts, b.events.steps("core-01"))
	}
}

// A guest that cannot be told is told of, and keeps nobody from coming up.
func TestNamesThatCannotBeTold(t *testing.T) {
	t.Parallel()
	b := newBench(t, strings.Replace(lan, "count = 3", "count = 1", 1))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := b.names()
	b.edit(strings.Replace(lan, "count = 3", "count = 2", 1))
	b.guests.exec = errors.New("exit status 1: sudo: a password is required")
	e, config := b.engine()
	other := config.Machines[1:]
	if err := e.Up(t.Context(), other, config.Machines); err != nil {
		t.Fatal(err)
	}
	want := first[0] + " it does not know the names of the other machines as they are now: write /etc/hosts: exit status 1: sudo: a password is required; hostctl up " + first[0] + " tells it"
	if got := b.events.notices(); got != want {
		t.Errorf("notices %q\nwant    %q", got, want)
	}
}

// used is a subnet of an interface.
func used(name, prefix string) network.UsedSubnet {
	return network.UsedSubnet{Prefix: netip.MustParsePrefix(prefix), By: "interface " + name, Interface: name}
}

// Subnets that somebody has a use for are refused before anything is made, at
// the line that says them.
func TestSubnetIsTaken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		subnets []network.UsedSubnet
		err     string
		detail  string
	}{
		{"docker0", []network.UsedSubnet{used("lo", "127.0.0.0/8"), used("docker1", "172.28.0.0/16")},
			`network "dev": 172.28.8.0/24, the subnet of the network "dev", overlaps interface docker1 (172.28.0.0/16)`,
			`172.28.8.0/24, the subnet of the network "dev", overlaps interface docker1 (172.28.0.0/16). Use another subnet, such as "172.29.8.0/24".`},
		{"a VPN's route", []network.UsedSubnet{{Prefix: netip.MustParsePrefix("172.16.0.0/12"), By: "route through tun0", Interface: "tun0"}},
			`network "dev": 172.28.8.0/24, the subnet of the network "dev", overlaps route through tun0 (172.16.0.0/12)`,
			`172.28.8.0/24, the subnet of the network "dev", overlaps route through tun0 (172.16.0.0/12). Use another subnet, such as "192.168.56.0/24".`},
		{"somebody's with the same subnet", []network.UsedSubnet{used("virbr9", "172.28.8.0/24")},
			`network "dev": 172.28.8.0/24, the subnet of the network "dev", overlaps interface virbr9 (172.28.8.0/24)`,
			`172.28.8.0/24, the subnet of the network "dev", overlaps interface virbr9 (172.28.8.0/24). Use another subnet, such as "172.29.8.0/24".`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, lan)
			b.subnets = c.subnets
			err := b.up(t.Context())
			config, ok := errors.AsType[*lifecycle.ConfigError](err)
			if !ok || len(config.Diags) != 1 {
				t.Fatalf("up: %v, want one diagnostic", err)
			}
			if d := config.Diags[0]; config.Error() != c.err || d.Detail != c.detail || d.Summary != "Subnet is taken" || d.Subject.Start.Line != 3 {
				t.Errorf("line %d: %s: %s\n%s", d.Subject.Start.Line, d.Summary, d.Detail, config)
			}
			if n := strings.Count(err.Error(), "overlaps"); n != 1 {
				t.Errorf("said %d times: %v", n, err)
			}
			b.nothingLeft()
		})
	}
}

// The project's own network is in nobody's way.
func TestOwnNetworkIsNoCollision(t *testing.T) {
	t.Parallel()
	b := newBench(t, lan)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, _ := b.engine()
	if err := e.Halt(t.Context(), b.names()); err != nil {
		t.Fatal(err)
	}
	b.subnets = []network.UsedSubnet{used("hctl-dev", "172.28.8.0/24")}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What runs is not asked about: a VPN that came since is for the next start.
	b.subnets = append(b.subnets, used("tun0", "172.28.0.0/16"))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, config := b.engine()
	if err := e.Reload(t.Context(), config.Machines, config.Machines); err == nil || !strings.Contains(err.Error(), "overlaps interface tun0") {
		t.Errorf("reload: %v", err)
	}
	if s, err := b.fake.Status(t.Context(), "core-01"); err != nil || s.State != provider.Running {
		t.Errorf("core-01 is %s, %v", s.State, err)
	}
}

func TestSubnetOfAnotherProject(t *testing.T) {
	t.Parallel()
	b := newBench(t, lan)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := newBench(t, strings.Replace(lan, "172.28.8.0/24", "172.28.0.0/16", 1))
	other.stateHome = b.stateHome
	err := other.up(t.Context())
	e, _ := b.engine()
	want := fmt.Sprintf(`core-01: check host: network "dev": 172.28.0.0/16, the subnet of the network "dev", overlaps the network "dev" of the project in %s (172.28.8.0/24)`, e.Project.Dir())
	if err == nil || !strings.Contains(err.Error(), want[len("core-01: "):]) {
		t.Errorf("up: %v\nwant %s", err, want)
	}
	if err := b.destroy(); err != nil {
		t.Fatal(err)
	}
	if err := other.up(t.Context()); err != nil {
		t.Errorf("with the other project gone: %v", err)
	}
}

// A network has one subnet at a time.
func TestSubnetThatChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t, strings.Replace(lan, "count = 3", "count = 2", 1))
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.edit(strings.Replace(lan, "172.28.8", "172.29.8", 1))
	// A new machine cannot join before the others have moved.
	err := b.up(t.Context())
	want := `core-03: check host: network "dev": the network "dev" is 172.28.8.0/24 for core-01, core-02`
	if err == nil || err.Error() != want {
		t.Errorf("up: %v\nwant %s", err, want)
	}
	if got := lines(b.plan()); !strings.Contains(got, "core-01 running replace; network dev [172.28.8.0/24] [172.29.8.0/24] replace") {
		t.Errorf("plan:\n%s", got)
	}
	b.yes = true
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"core-01 172.29.8.2", "core-02 172.29.8.3", "core-03 172.29.8.4"}, b.addresses()); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

// An address that a machine was assigned is not declared away from it.
func TestDeclaredAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	b := newBench(t, lan)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.edit(lan + "machine \"db\" {\n image = \"dockerhost\"\n network \"dev\" {\n  address = \"172.28.8.3\"\n }\n}\n")
	err := b.up(t.Context())
	config, ok := errors.AsType[*lifecycle.ConfigError](err)
	if !ok || config.Diags[0].Subject.Start.Line != 13 || config.Diags[0].Detail !=
		`172.28.8.3 on the network "dev" belongs to machine "core-02". Use another, or have that machine made anew with an address of its own: hostctl destroy core-02.` {
		t.Errorf("up: %v", err)
	}
}

func TestProviderWithoutNetworks(t *testing.T) {
	t.Parallel()
	for file, line := range map[string]int{lan: 8, bridgedFile: 7} {
		b := newBench(t, file)
		b.provider = struct{ provider.Provider }{b.fake}
		err := b.up(t.Context())
		config, ok := errors.AsType[*lifecycle.ConfigError](err)
		if !ok || config.Diags[0].Subject.Start.Line != line || !strings.Contains(config.Error(), `the provider "qemu" has no `) {
			t.Errorf("up: %v", err)
		}
		b.nothingLeft()
	}
}

const bridgedFile = `
network "bridged" "lan" {
}
machine "core" {
  count = 2
  image = "dockerhost"
  network "lan" {}
}
`

// bridger is the fake on a host with interfaces.
type bridger struct {
	*providertest.Fake
	have []network.Interface
	nat  netip.Addr // zero: QEMU's
}

func (b *bridger) BridgeInterfaces(context.Context) ([]network.Interface, error) { return b.have, nil }

func (b *bridger) NATAddress(context.Context, string, string) (netip.Addr, error) {
	if b.nat.IsValid() {
		return b.nat, nil
	}
	return netip.MustParseAddr("10.0.2.15"), nil
}

func (b *bench) withInterfaces(names ...string) *bridger {
	p := &bridger{Fake: b.fake}
	for _, name := range names {
		p.have = append(p.have, network.Interface{Name: name})
	}
	b.provider = p
	return p
}

func TestBridgedInterface(t *testing.T) {
	t.Parallel()
	named := strings.Replace(bridgedFile, "{\n}", "{\n  interface = [\"wlan0\", \"eth1\"]\n}", 1)
	for _, c := range []struct {
		name, file string
		have       []string
		answer     int // -1: nobody is there
		asked      string
		want       string
		err        string
		line       int
	}{
		{"first that exists", named, []string{"eth0", "eth1"}, -1, "", "eth1", "", 0},
		{"none of them", named, []string{"eth0"}, 0, "", "", `network "lan": this host has no interface "wlan0" or "eth1"`, 3},
		{"the only one", bridgedFile, []string{"eth0"}, -1, "", "eth0", "", 0},
		{"chosen", bridgedFile, []string{"eth0", "eth1"}, 1, `which interface is network "lan" on? [eth0 eth1]`, "eth1", "", 0},
		{"nobody to choose", bridgedFile, []string{"eth0", "eth1"}, -1, `which interface is network "lan" on? [eth0 eth1]`, "", `network "lan": the machine file does not say which interface to use`, 2},
		{"no interfaces", bridgedFile, nil, -1, "", "", `network "lan": this host has no interface that a bridged network can use`, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.file)
			b.withInterfaces(c.have...)
			var asked []string
			b.choose = func(question string, options []string) (int, error) {
				asked = append(asked, fmt.Sprint(question, " ", options))
				return c.answer, nil
			}
			err := b.up(t.Context())
			if got := strings.Join(asked, "\n"); got != c.asked {
				t.Errorf("asked %q, want %q", got, c.asked)
			}
			if c.err != "" {
				config, ok := errors.AsType[*lifecycle.ConfigError](err)
				if !ok || config.Error() != c.err || config.Diags[0].Subject.Start.Line != c.line {
					t.Errorf("up: %v (%#v)", err, config)
				}
				b.nothingLeft()
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"core-01 " + c.want, "core-02 " + c.want}, b.addresses()); diff != "" {
				t.Errorf("interfaces (-want +got):\n%s", diff)
			}
			if d, _ := b.fake.Domain("core-01"); len(d.NICs) != 1 || d.NICs[0].Interface != c.want || d.NICs[0].HostOnly != nil {
				t.Errorf("cards %+v", d.NICs)
			}
		})
	}
}

// An interface that was chosen stays chosen. When it is gone, that is said, and
// nothing is started on another one behind the user's back.
func TestBridgedInterfaceThatIsGone(t *testing.T) {
	t.Parallel()
	b := newBench(t, bridgedFile)
	p := b.withInterfaces("eth0", "eth1")
	b.choose = func(string, []string) (int, error) { return 1, nil }
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, _ := b.engine()
	if err := e.Halt(t.Context(), b.names()); err != nil {
		t.Fatal(err)
	}
	b.choose = func(question string, _ []string) (int, error) { return 0, errors.New("asked again: " + question) }
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Where the machine runs it stays as it is.
	p.have = p.have[:1]
	b.choose = nil
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, config := b.engine()
	err := e.Reload(t.Context(), config.Machines, config.Machines)
	want := `network "lan": interface eth1, which it was on, is gone`
	c, ok := errors.AsType[*lifecycle.ConfigError](err)
	if !ok || c.Error() != want || !strings.Contains(c.Diags[0].Detail, `Set interface to "eth0".`) {
		t.Errorf("reload: %v, %#v", err, c)
	}
	if s, err := b.fake.Status(t.Context(), "core-01"); err != nil || s.State != provider.Running {
		t.Errorf("core-01 is %s, %v", s.State, err)
	}
	// With another one named, a restart moves it.
	b.edit(strings.Replace(bridgedFile, "{\n}", "{\n  interface = \"eth0\"\n}", 1))
	if got := lines(b.plan()[:1]); got != "core-01 running restart; network lan [bridged] [bridged to eth0] restart" {
		t.Errorf("plan: %s", got)
	}
	b.yes = true
	before := b.state().Machines
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"core-01 eth0", "core-02 eth0"}, b.addresses()); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	if before["core-01"].DomainID != b.state().Machines["core-01"].DomainID {
		t.Error("the machine was made anew")
	}
}

// Docker's port is not open to a LAN unless the file says so.
func TestDockerOnABridgedNetwork(t *testing.T) {
	t.Parallel()
	const both = `
network "bridged" "lan" {
}
network "hostonly" "dev" {
  cidr = "172.28.8.0/24"
}
machine "core" {
  image = "dockerhost"
  network "lan" {}
  network "dev" {}
  docker {
    insecure = INSECURE
  }
}
`
	b := newBench(t, strings.Replace(both, "INSECURE", "false", 1))
	b.withInterfaces("eth0")
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "ListenStream=127.0.0.1:2375\nListenStream=10.0.2.15:2375\nListenStream=172.28.8.2:2375\nFreeBind=yes\n"
	if got := b.files("core")["docker-tcp.socket"]; !strings.Contains(got, want) {
		t.Errorf("socket:\n%s", got)
	}
	b.edit(strings.Replace(both, "INSECURE", "true", 1))
	if got, want := lines(b.plan()), "core running replace; docker insecure [false] [true] replace"; got != want {
		t.Errorf("plan: %s, want %s", got, want)
	}
	b.yes = true
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.files("core")["docker-tcp.socket"]; !strings.Contains(got, "ListenStream=2375\n") {
		t.Errorf("socket:\n%s", got)
	}
	// Elsewhere it makes no difference.
	only := strings.Replace(lan, "image =", "docker {\n insecure = true\n }\n image =", 1)
	b = newBench(t, lan)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.edit(only)
	if got := lines(b.plan()); strings.Contains(got, "insecure") {
		t.Errorf("plan: %s", got)
	}
}

// A guest that keeps Docker from a LAN learns where its NAT network has gone.
func TestDockerFollowsTheNATNetwork(t *testing.T) {
	t.Parallel()
	b := newBench(t, bridgedFile)
	host := b.withInterfaces("eth0")
	b.edit(strings.Replace(bridgedFile, "count = 2", "", 1))
	told := func(want ...string) {
		t.Helper()
		if err := b.up(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, unit := range b.guests.sockets {
			_, unit, _ = strings.Cut(unit, "[Socket]\n")
			unit, _, _ = strings.Cut(unit, "Service=")
			got = append(got, unit)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("sockets (-want +got):\n%s", diff)
		}
	}
	const first = "ListenStream=127.0.0.1:2375\nListenStream=10.0.2.15:2375\nFreeBind=yes\n"
	const then = "ListenStream=127.0.0.1:2375\nListenStream=10.177.9.2:2375\nFreeBind=yes\n"
	b.guests.silent = 1
	told(first) // which Ignition has written: the script sees it
	restart := func() {
		t.Helper()
		if err := b.fake.Kill("core"); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	told(first)
	restart()
	host.nat = netip.MustParseAddr("10.177.9.2")
	b.guests.exec = errors.New("the connection was lost")
	if err := b.up(t.Context()); !errors.Is(err, b.guests.exec) {
		t.Errorf("up: %v", err)
	}
	b.guests.exec = nil
	told(first, then, then) // as what the guest has of the first time is not known
	restart()
	told(first, then, then)
	// What was lost may have been done all the same: the way back is told, too.
	host.nat = netip.MustParseAddr("10.177.10.2")
	restart()
	b.guests.exec = errors.New("the connection was lost")
	if err := b.up(t.Context()); !errors.Is(err, b.guests.exec) {
		t.Errorf("up: %v", err)
	}
	b.guests.exec = nil
	restart()
	host.nat = netip.MustParseAddr("10.177.9.2")
	told(first, then, then, strings.Replace(then, "177.9", "177.10", 1), then)
	// Where the LAN may use it, all addresses are fine.
	b = newBench(t, strings.Replace(bridgedFile, "image =", "docker {\n insecure = true\n }\n image =", 1))
	b.withInterfaces("eth0")
	told()
}

// A libvirt is chosen when its first machine is made, and stays while there is
// one.
func TestLibvirtThatChanged(t *testing.T) {
	t.Parallel()
	const file = `
provider "libvirt" {
  uri = "qemu+ssh://one/system"
}
machine "core" {
  provider = "libvirt"
  image    = "dockerhost"
}
`
	b := newBench(t, file)
	recorded := ""
	b.fake.Before = func(_ context.Context, op providertest.Op, _ string) error {
		if op == providertest.Create {
			recorded = b.state().LibvirtURI
		}
		return nil
	}
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if recorded != "qemu+ssh://one/system" {
		t.Errorf("recorded %q before the machine was made", recorded)
	}
	changed := strings.Replace(file, "one", "two", 1)
	b.edit(changed)
	err := b.up(t.Context())
	config, ok := errors.AsType[*lifecycle.ConfigError](err)
	want := "uri of libvirt changed from qemu+ssh://one/system to qemu+ssh://two/system, and core is at the former"
	if !ok || config.Error() != want || config.Diags[0].Subject.Start.Line != 3 || !strings.Contains(config.Diags[0].Detail, "(hostctl destroy core)") {
		t.Errorf("up: %v\nwant %s (%s)", err, want, hint.Of(err))
	}
	b.edit(strings.Replace(file, "uri =", "pool = \"fast\"\n  uri =", 1))
	if err := b.up(t.Context()); err == nil || !strings.Contains(err.Error(), "pool of libvirt changed from unset to fast") {
		t.Errorf("up: %v", err)
	}
	if err := b.destroy(); err != nil {
		t.Fatal(err)
	}
	b.edit(changed)
	if err := b.up(t.Context()); err != nil {
		t.Fatal(err)
	}
}
