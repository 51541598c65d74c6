package network_test

import (
	"errors"
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/network"
)

var (
	linux = []network.Interface{{Name: "enp3s0"}, {Name: "eth10"}, {Name: "eth1"}, {Name: "br0", Bridge: true}, {Name: "wlan0", Label: "wlan0: Wi-Fi"}}
	mac   = []network.Interface{{Name: "en0", Label: "en0: Ethernet"}, {Name: "en1", Label: "en1: Wi-Fi"}, {Name: "en5", Label: "en5: USB 10/100/1000 LAN"}}
)

func TestChooseInterface(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		wanted []string
		have   []network.Interface
		want   string
	}{
		{"by name", []string{"eth1"}, linux, "eth1"},
		{"in any case", []string{"ETH1"}, linux, "eth1"},
		{"the first that exists", []string{"eth0", "br0", "eth1"}, linux, "br0"},
		{"by the beginning of its name", []string{"enp"}, linux, "enp3s0"},
		{"whole before begun", []string{"eth1"}, []network.Interface{{Name: "eth1.20"}, {Name: "eth1"}}, "eth1"},
		{"a number is whole", []string{"eth", "eth1"}, linux, "eth10"},
		{"the first of the file before the better match", []string{"en", "br0"}, linux, "enp3s0"},
		{"by label", []string{"en1: Wi-Fi"}, mac, "en1"},
		{"by the beginning of its label", []string{"en5: USB"}, mac, "en5"},
		{"by an older label", []string{"en1: Wi-Fi (AirPort)"}, mac, "en1"},
		{"by name where there are no labels", []string{"eth1: Ethernet"}, linux, "eth1"},
		{"another label", []string{"en0: Wi-Fi (AirPort)", "en1"}, mac, "en1"},
		{"the only one", nil, linux[:1], "enp3s0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := network.ChooseInterface(c.wanted, c.have)
			if err != nil || got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestChooseInterfaceFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		wanted     []string
		have       []network.Interface
		want, hint string
	}{
		{"gone", []string{"eth7"}, mac, `this host has no interface "eth7"`,
			`set interface to "en0: Ethernet", "en1: Wi-Fi" or "en5: USB 10/100/1000 LAN"`},
		{"several gone", []string{"en1: Wi-Fi (AirPort)", "eth0"}, linux[1:3], `this host has no interface "en1: Wi-Fi (AirPort)" or "eth0"`,
			`set interface to "eth10" or "eth1"`},
		{"part of a number", []string{"eth1"}, linux[1:2], `this host has no interface "eth1"`, `set interface to "eth10"`},
		{"nothing is not a beginning", []string{""}, linux[:1], `this host has no interface ""`, `set interface to "enp3s0"`},
		{"a choice", nil, linux[:2], "the machine file does not say which interface to use", `set interface to "enp3s0" or "eth10"`},
		{"no choice", []string{"eth0"}, nil, "this host has no interface that a bridged network can use", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := network.ChooseInterface(c.wanted, c.have)
			if _, ok := errors.AsType[*network.NoInterfaceError](err); !ok {
				t.Fatalf("got %q, %v", got, err)
			}
			if err.Error() != c.want || hint.Of(err) != c.hint {
				t.Errorf("got %q with hint %q", err, hint.Of(err))
			}
		})
	}
}
