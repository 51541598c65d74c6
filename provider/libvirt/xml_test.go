package libvirt

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/golden"
	"github.com/hostctl/hostctl/provider"
)

const (
	testID      = "6f0e3f0a-5a8b-4a51-9a55-0f3f6c1a9b01"
	testProject = "0123456789ab"
)

func TestDomainXML(t *testing.T) {
	t.Parallel()
	plain := provider.Domain{
		Name: "core-01", ID: testID, Arch: "amd64", CPUs: 2, Memory: 1024,
		Disk:     provider.Disk{Base: "/cache/disk.qcow2", BaseFormat: "qcow2", Size: 20 << 30},
		Ignition: provider.Ignition{Key: "opt/com.coreos/config", Config: []byte(`{"secret":"key"}`)},
	}
	dev := provider.HostOnly{Name: "dev", CIDR: netip.MustParsePrefix("172.28.8.0/24")}
	cards := plain
	cards.NoNAT = true
	cards.NICs = []provider.NIC{
		{Network: "dev", MAC: "52:54:00:00:00:01", HostOnly: &dev, Address: netip.MustParseAddr("172.28.8.101")},
		{Network: "lan", MAC: "52:54:00:00:00:02", Interface: "eth0"},
		{Network: "home", MAC: "52:54:00:00:00:03", Interface: "br0"},
	}
	odd := plain
	odd.Disk.Base = `/c, "ä" <&>/disk.qcow2`
	arm := plain
	arm.Arch = "arm64"
	pool := surroundings{
		project:  testProject,
		disk:     "/pool/hostctl-0123456789ab-core-01.6f0e3f0a.disk",
		ignition: "/pool/hostctl-0123456789ab-core-01.6f0e3f0a.ign",
		serial:   "/pool/hostctl-0123456789ab-core-01.6f0e3f0a.serial",
	}
	for _, c := range []struct {
		name   string
		domain provider.Domain
		in     func(*surroundings)
	}{
		{"amd64-kvm", plain, func(s *surroundings) { s.accel = "kvm" }},
		{"amd64-tcg-uploaded", plain, func(s *surroundings) {
			s.accel, s.keepOwner = "tcg", false
			s.record.Base, s.record.BaseVolume = "/pool/hostctl-base-1", "hostctl-base-1"
		}},
		{"amd64-cards", cards, func(s *surroundings) {
			s.accel, s.bridges = "tcg", map[string]bool{"eth0": false, "br0": true}
		}},
		{"amd64-session", plain, func(s *surroundings) { s.accel, s.session = "tcg", true }},
		{"amd64-uefi", plain, func(s *surroundings) {
			s.accel = "kvm"
			s.firmware = &provider.Firmware{Code: "/fw/code.qcow2", Vars: "/pool/vars", Format: "qcow2"}
		}},
		{"amd64-odd-path", odd, func(s *surroundings) { s.accel = "tcg"; s.record.Base = odd.Disk.Base }},
		{"arm64-kvm", arm, func(s *surroundings) { s.accel = "kvm" }},
		{"arm64-tcg", arm, func(s *surroundings) { s.accel = "tcg" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := pool
			s.record = newRecord(c.domain)
			s.record.Pool, s.record.Base, s.keepOwner = "default", "/cache/disk.qcow2", true
			if !c.domain.NoNAT && c.name != "amd64-session" {
				s.record.NAT = netip.MustParsePrefix("10.177.3.2/24")
			}
			c.in(&s)
			got, err := domainXML(c.domain, s)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(got, "secret") {
				t.Error("the definition shows the guest's configuration")
			}
			golden.Equal(t, "domain/"+c.name+".golden", got+"\n")

			x, tag, r, err := parseDomain(got)
			if err != nil {
				t.Fatal(err)
			}
			if same, err := r.equal(newRecord(c.domain)); err != nil || !same || tag.Project != testProject || tag.Machine != "core-01" || x.UUID != testID {
				t.Errorf("read back: %v, %+v of %+v", err, r, tag)
			}
		})
	}
}

func TestNetworkXML(t *testing.T) {
	t.Parallel()
	subnet := netip.MustParsePrefix("10.177.3.0/24")
	nat, err := natXML(testProject, subnet, nil)
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "network/nat.golden", nat+"\n")
	dev, err := hostOnlyXML(testProject, "dev", netip.MustParsePrefix("172.28.8.0/26"))
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "network/hostonly.golden", dev+"\n")
	for _, name := range []string{natNetworkName(testProject), hostOnlyNetworkName(testProject, "a-name-as-long-as-dns-labels-may-be")} {
		if b := bridgeName(name); len(b) > 15 {
			t.Errorf("%s is too long for an interface", b)
		}
	}
}

// What others keep in the metadata is not hostctl's, and is not in its way.
func TestParseTag(t *testing.T) {
	t.Parallel()
	ours, err := tag{Project: testProject, Machine: "core", Content: `{"a":"<&>"}`}.element("domain")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, metadata string
		want           bool
	}{
		{"ours", ours, true},
		{"beside another's", `<x:app xmlns:x="http://example.com/"><x:y/></x:app>` + ours, true},
		{"another's", `<x:app xmlns:x="http://example.com/" project="0123456789ab"/>`, false},
		{"nothing", "", false},
		{"damaged", "<hostctl:domain", false},
	} {
		got, ok := parseTag(c.metadata)
		if ok != c.want || ok && (got.Project != testProject || got.Machine != "core" || got.Content != `{"a":"<&>"}`) {
			t.Errorf("%s: %+v, %t", c.name, got, ok)
		}
	}
}

func FuzzParseDomain(f *testing.F) {
	f.Add(`<domain type='kvm'><name>a</name><metadata><hostctl:domain xmlns:hostctl="` + namespace + `" project="p">{}</hostctl:domain></metadata></domain>`)
	f.Add("<domain>")
	f.Fuzz(func(t *testing.T, text string) {
		_, _, _, _ = parseDomain(text) // must not panic
	})
}

func TestVolumesOfAMachine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		volume, machine string
		want            bool
	}{
		{volumeName(testProject, "core", testID, diskVolume), "core", true},
		{volumeName(testProject, "core", testID, serialVolume) + ".0", "core", true},
		{volumeName(testProject, "core-01", testID, diskVolume), "core", false},
		{volumeName(testProject, "core", testID, diskVolume), "core-01", false},
		{volumeName("ba9876543210", "core", testID, diskVolume), "core", false},
		{"hostctl-base-0123456789abcdef", "core", false},
		{"hostctl-0123456789ab-core.6f0e3f0a.disk.bak", "core", false},
	} {
		if got := isVolumeOf(testProject, c.machine, c.volume); got != c.want {
			t.Errorf("%s of %s: %t", c.volume, c.machine, got)
		}
	}
}
