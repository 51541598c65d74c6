package machinefile

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
)

const networksText = `variable "subnet" { default = "172.28.8.0/24" }
network "hostonly" "dev" { cidr = var.subnet }
network "bridged" "lan" { interface = ["en1: Wi-Fi (AirPort)", "eth0"] }
network "bridged" "one" { interface = "br0" }
network "bridged" "asked" {}
provider "libvirt" {
  uri  = "qemu+ssh://core@build.example:2222/system"
  pool = "fast"
}

machine "core" {
  count    = 2
  provider = "libvirt"
  image    = "dockerhost"
  nat      = false

  network "lan" {}
  network "dev" { address = cidrhost(var.subnet, 101 + index) }
  docker { publish_ports = false }
}
machine "other" {
  image = "dockerhost"

  network "dev" { address = null }
}
`

func TestNetworks(t *testing.T) {
	t.Parallel()
	config := mustLoad(t, t.TempDir(), networksText, Options{})
	dev := &Network{Name: "dev", Kind: HostOnly, CIDR: netip.MustParsePrefix("172.28.8.0/24")}
	lan := &Network{Name: "lan", Kind: Bridged, Interfaces: []string{"en1: Wi-Fi (AirPort)", "eth0"}}
	one := &Network{Name: "one", Kind: Bridged, Interfaces: []string{"br0"}}
	if diff := cmp.Diff([]*Network{dev, lan, one, {Name: "asked", Kind: Bridged}}, config.Networks, ignoreRanges); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Libvirt{URI: "qemu+ssh://core@build.example:2222/system", Pool: "fast"}, config.Libvirt, ignoreRanges); diff != "" {
		t.Error(diff)
	}
	image := &Image{Source: "dockerhost"}
	docker := Docker{Enabled: true, Port: 2375, PublishPorts: true}
	quiet := Docker{Enabled: true, Port: 2375}
	want := []*Machine{
		{
			Name: "core-01", Provider: "libvirt", Image: image, CPUs: 2, Memory: GiB, Docker: quiet,
			Networks: []Attachment{{Network: lan}, {Network: dev, Address: netip.MustParseAddr("172.28.8.101")}},
		},
		{
			Name: "core-02", Provider: "libvirt", Image: image, CPUs: 2, Memory: GiB, Docker: quiet,
			Networks: []Attachment{{Network: lan}, {Network: dev, Address: netip.MustParseAddr("172.28.8.102")}},
		},
		{
			Name: "other", Provider: "qemu", Image: image, CPUs: 2, Memory: GiB, Docker: docker, NAT: true,
			Networks: []Attachment{{Network: dev}},
		},
	}
	if diff := cmp.Diff(want, config.Machines, ignoreRanges); diff != "" {
		t.Error(diff)
	}
	for _, m := range config.Machines {
		for _, at := range m.Networks {
			if at.Network != config.Networks[0] && at.Network != config.Networks[1] {
				t.Errorf("%s and the config do not share the network %s", m.Name, at.Network.Name)
			}
		}
	}
}

func TestRangeOfNetworks(t *testing.T) {
	t.Parallel()
	config := mustLoad(t, t.TempDir(), networksText, Options{})
	m := config.Machines[1]
	for got, want := range map[string]string{
		config.Networks[0].RangeOf("cidr").String():      "2,35-45",
		config.Networks[1].RangeOf("interface").String(): "3,39-71",
		config.Networks[3].RangeOf("interface").String(): "5,1-26",
		config.Libvirt.RangeOf("pool").String():          "8,10-16",
		m.RangeOf("nat").String():                        "15,14-19",
		m.Networks[0].Range.String():                     "17,3-16",
		m.Networks[1].Range.String():                     "18,29-62",
		config.Machines[2].Networks[0].Range.String():    "24,3-16",
	} {
		if !strings.HasSuffix(got, FileName+":"+want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	none := mustLoad(t, t.TempDir(), "", Options{})
	if got := none.Libvirt.RangeOf("uri"); got != (hcl.Range{}) {
		t.Errorf("without a block: got %s", got)
	}
}

// What a subnet's bounds allow is allowed, without a word.
func TestSubnets(t *testing.T) {
	t.Parallel()
	for _, cidr := range []string{
		"10.128.0.0/9", "10.0.3.0/24", "10.0.1.0/24", "172.16.0.0/16", "172.18.0.0/16", "192.168.56.0/24",
		"192.168.1.248/29", "100.64.1.0/24", "192.0.2.0/24",
	} {
		_, _, diags := load("machine.hcl", fmt.Appendf(nil, `network "hostonly" "dev" { cidr = %q }`, cidr), Options{})
		if len(diags) != 0 {
			t.Errorf("%s: %v", cidr, diags)
		}
	}
}

// A subnet that is somebody's is doubtful, not wrong.
func TestPublicSubnet(t *testing.T) {
	t.Parallel()
	for _, cidr := range []string{"8.8.8.0/24", "11.0.0.0/8", "172.32.0.0/16", "192.128.0.0/9"} {
		config, _, diags := load("machine.hcl", fmt.Appendf(nil, `network "hostonly" "dev" { cidr = %q }`, cidr), Options{})
		if len(diags) != 1 || diags[0].Severity != hcl.DiagWarning || config == nil || config.Networks[0].CIDR.String() != cidr {
			t.Errorf("%s: got %v, %v", cidr, config, diags)
		}
	}
}

func TestDynamicNetworks(t *testing.T) {
	t.Parallel()
	config := mustLoad(t, t.TempDir(), `
		network "hostonly" "a" { cidr = "172.28.8.0/24" }
		network "hostonly" "b" { cidr = "172.28.9.0/24" }
		network "bridged" "c" {}
		locals { on = { a = "172.28.8.0/24", b = "172.28.9.0/24" } }
		machine "core" {
		  count = 2
		  image = "dockerhost"
		  dynamic "network" {
		    for_each = local.on
		    labels   = [network.key]
		    content {
		      address = cidrhost(network.value, 10 + index)
		    }
		  }
		  network "c" {}
		  dynamic "forward" {
		    for_each = [80]
		    labels   = ["web"]
		    content {
		      guest = forward.value
		      host  = 8000 + index
		    }
		  }
		}`, Options{})
	var got []string
	for _, m := range config.Machines {
		for _, at := range m.Networks {
			got = append(got, at.Network.Name+" "+at.Address.String())
		}
		got = append(got, m.Forwards[0].Name)
	}
	want := []string{"a 172.28.8.10", "b 172.28.9.10", "c invalid IP", "web", "a 172.28.8.11", "b 172.28.9.11", "c invalid IP", "web"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// As many machines as there are addresses, and one more.
func TestRoom(t *testing.T) {
	t.Parallel()
	for machines, want := range map[int]string{5: "", 6: "Subnet is too small"} {
		text := fmt.Sprintf(`
			network "hostonly" "dev" { cidr = "172.28.8.0/29" }
			machine "core" {
			  count = %d
			  image = "dockerhost"
			  network "dev" {}
			}`, machines)
		_, _, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
		var got string
		for _, d := range diags {
			got += d.Summary
		}
		if got != want {
			t.Errorf("%d machines: got %q, want %q", machines, got, want)
		}
	}
}

func TestLibvirtURI(t *testing.T) {
	t.Parallel()
	const shape = ` It must be such as "qemu:///system", "qemu:///session" or "qemu+ssh://user@host/system".`
	const schemes = `" leads to no libvirtd that runs QEMU guests: uri must start with qemu, qemu+ssh, qemu+tcp, qemu+tls or qemu+unix, and ://.`
	tests := []struct{ uri, want string }{
		{"qemu:///system", ""},
		{"qemu:///session", ""},
		{"qemu+unix:///system?socket=/run/libvirt/libvirt-sock", ""},
		{"qemu+tcp://127.0.0.1:16509/system", ""},
		{"qemu+tls://build.example/system?pkipath=/etc/pki/build", ""},
		{"qemu+ssh://core@build.example/session", ""},
		{"xen:///system", `"xen:///system` + schemes},
		{"qemu+tpc://host/system", `"qemu+tpc://host/system` + schemes + ` Did you mean "qemu+tcp"?`},
		{"qemu+libssh2://host/system", `"qemu+libssh2://host/system` + schemes},
		{"system", `"system` + schemes + ` Did you mean "qemu:///system"?`},
		{"/session", `"/session` + schemes + ` Did you mean "qemu:///session"?`},
		{"qemu:/system", `"qemu:/system" has no :// after its scheme.` + shape},
		{"qemu:system", `"qemu:system" has no :// after its scheme.` + shape},
		{"qemu://system", `"qemu://system" names a host called "system" and no /system or /session. Did you mean "qemu:///system"?`},
		{"qemu:///", `The path in "qemu:///" must be /system, or /session for a libvirtd of your own.` + shape},
		{"qemu+ssh://host", `The path in "qemu+ssh://host" must be /system, or /session for a libvirtd of your own.` + shape},
		{"qemu+ssh:///system", `"qemu+ssh:///system" names no host: qemu+ssh://HOST/system.`},
		{"qemu+tcp://host/session", `A session is reached through its socket or by SSH, not by qemu+tcp: use "qemu+ssh://host/session".`},
		{"qemu://host/system", `qemu reaches only this computer, and "qemu://host/system" names a host: say how to reach it, as in "qemu+ssh://host/system".`},
		{"qemu+ssh://ho st/system", `uri must be as libvirt writes it, for instance "qemu:///system": parse "qemu+ssh://ho st/system": invalid character " " in host name.`},
		{"", `uri is empty. Leave it out, or use null, for the default.`},
	}
	for _, tt := range tests {
		t.Run(tt.uri, func(t *testing.T) {
			t.Parallel()
			config, _, diags := load("machine.hcl", fmt.Appendf(nil, "provider \"libvirt\" {\n  uri = %q\n}\n", tt.uri), Options{})
			switch {
			case tt.want == "" && (len(diags) != 0 || config.Libvirt.URI != tt.uri):
				t.Errorf("got %v", diags)
			case tt.want != "" && (len(diags) != 1 || diags[0].Detail != tt.want || diags[0].Subject.Start.Line != 2):
				t.Errorf("got %v, want %s", diags, tt.want)
			}
		})
	}
}

func TestForwardRanges(t *testing.T) {
	t.Parallel()
	config := mustLoad(t, t.TempDir(), `
		machine "core" {
		  count = 2
		  image = "dockerhost"
		  forward "web" {
		    guest    = "8000-8002"
		    host     = "${9000 + 3 * index}-${9002 + 3 * index}"
		    host_ip  = "127.0.0.2"
		    protocol = "udp"
		  }
		  forward "one" {
		    guest        = "80-80"
		    host         = "8080-8080"
		    auto_correct = true
		  }
		  forward "text" {
		    guest = "443"
		    host  = 8443 + index
		  }
		}`, Options{})
	var got []string
	for _, m := range config.Machines {
		for _, f := range m.Forwards {
			got = append(got, fmt.Sprintf("%s %s %s:%d-%d %v", f.Name, f.Protocol, f.HostIP, f.HostPort, f.GuestPort, f.AutoCorrect))
		}
	}
	want := []string{
		"web-8000 udp 127.0.0.2:9000-8000 false", "web-8001 udp 127.0.0.2:9001-8001 false", "web-8002 udp 127.0.0.2:9002-8002 false",
		"one-80 tcp 127.0.0.1:8080-80 true", "text tcp 127.0.0.1:8443-443 false",
		"web-8000 udp 127.0.0.2:9003-8000 false", "web-8001 udp 127.0.0.2:9004-8001 false", "web-8002 udp 127.0.0.2:9005-8002 false",
		"one-80 tcp 127.0.0.1:8080-80 true", "text tcp 127.0.0.1:8444-443 false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	last := mustLoad(t, t.TempDir(), `
		machine "core" {
		  image = "dockerhost"
		  forward "all" {
		    guest = "64536-65535"
		    host  = "64536-65535"
		  }
		}`, Options{}).Machines[0].Forwards
	if n := len(last); n != MaxRange || last[n-1].GuestPort != 65535 || last[n-1].HostPort != 65535 {
		t.Errorf("got %d forwards, the last %+v", n, last[n-1])
	}
}
