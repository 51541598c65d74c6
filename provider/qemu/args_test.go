package qemu

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/golden"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

func TestArgs(t *testing.T) {
	t.Parallel()
	const id = "6f0e3f0a-5a8b-4a51-9a55-0f3f6c1a9b01"
	loopback := netip.MustParseAddr("127.0.0.1")
	plain := provider.Domain{
		Name: "core-01", ID: id, Arch: "amd64", CPUs: 1, Memory: 1024,
		Ignition: provider.Ignition{Key: "opt/com.coreos/config"},
	}
	forwarded := plain
	forwarded.CPUs = 2
	forwarded.Forwards = []network.Forward{
		{Name: "docker", Protocol: "tcp", HostIP: loopback, HostPort: 2375, GuestPort: 2375},
		{Name: "dns", Protocol: "udp", HostIP: netip.IPv4Unspecified(), HostPort: 5353, GuestPort: 53},
	}
	arm := plain
	arm.Arch = "arm64"
	dev := provider.HostOnly{Name: "dev", CIDR: netip.MustParsePrefix("172.28.8.0/24")}
	cards := plain
	cards.NICs = []provider.NIC{
		{Network: "dev", MAC: "52:54:00:00:00:01", HostOnly: &dev, Address: netip.MustParseAddr("172.28.8.101")},
		{Network: "lan", MAC: "52:54:00:00:00:02", Interface: "br0"},
	}
	onlyCards := cards
	onlyCards.NoNAT = true
	edk2 := &provider.Firmware{Code: "/usr/share/AAVMF/AAVMF_CODE.fd", Vars: "/usr/share/AAVMF/AAVMF_VARS.fd", Format: "raw"}
	for _, c := range []struct {
		name   string
		domain provider.Domain
		host   surroundings
	}{
		{"amd64-kvm", plain, surroundings{accel: "kvm", socket: "/run/hc/a.qmp"}},
		{"amd64-tcg-forwards", forwarded, surroundings{accel: "tcg", socket: "/run/hc/a.qmp"}},
		{"amd64-whpx", plain, surroundings{accel: "whpx", socket: `C:\hc\a.qmp`}},
		{"amd64-uefi-comma", plain, surroundings{accel: "kvm", socket: "/run/h,c/a.qmp",
			firmware: &provider.Firmware{Code: "/fw, signed/code.qcow2", Vars: "/fw, signed/vars.qcow2", Format: "qcow2"}}},
		{"amd64-nics-taps", cards, surroundings{accel: "kvm", socket: "/run/hc/a.qmp", plugs: []plug{{fd: 3}, {fd: 4}}}},
		{"amd64-nics-unprivileged", cards, surroundings{accel: "kvm", socket: "/run/hc/a.qmp", plugs: []plug{
			{socket: "/run/h,c/a.n0"}, {bridge: "br0", helper: "/usr/lib/qemu/qemu-bridge-helper"},
		}}},
		{"amd64-no-nat", onlyCards, surroundings{accel: "kvm", socket: "/run/hc/a.qmp", plugs: []plug{{fd: 3}, {fd: 4}}}},
		{"arm64-kvm", arm, surroundings{accel: "kvm", socket: "/run/hc/a.qmp", firmware: edk2}},
		{"arm64-hvf", arm, surroundings{accel: "hvf", socket: "/run/hc/a.qmp", firmware: edk2}},
		{"arm64-tcg", arm, surroundings{accel: "tcg", socket: "/run/hc/a.qmp", firmware: edk2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			golden.Equal(t, "args/"+c.name+".golden", strings.Join(args(c.domain, c.host), "\n")+"\n")
		})
	}
}

// The monitor is found again from the process's own command line.
func TestSocketOfAProcess(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/run/hc/a.qmp", "/run/h,c,,/path=a,b.qmp", `C:\hc\a.qmp`} {
		d := provider.Domain{Name: "core", ID: testID, Arch: "amd64", CPUs: 1, Memory: 64}
		for _, program := range []string{"/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"} {
			v := vm{argv: append([]string{program}, args(d, surroundings{accel: "tcg", socket: path})...)}
			v.argv = append(v.argv, nicArgs(1, provider.NIC{MAC: "52:54:00:00:00:01"}, plug{socket: path})...)
			if v.nicSocket(1) != path || v.nicSocket(0) != "" {
				t.Errorf("%s: socket of the card is %q", program, v.nicSocket(1))
			}
			if v.socket() != path || v.id() != testID || v.accel() != "tcg" {
				t.Errorf("%s: socket %q of %q, id %q, accel %q", program, v.socket(), path, v.id(), v.accel())
			}
		}
	}
}
