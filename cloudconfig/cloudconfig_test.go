package cloudconfig_test

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	ignition3_3 "github.com/coreos/ignition/v2/config/v3_3"
	"github.com/coreos/ignition/v2/config/v3_3/types"
	"github.com/vincent-petithory/dataurl"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/golden"
)

// The families as the catalog describes them.
var (
	dockerhost = guest("dockerhost")
	flatcar    = guest("flatcar")
	fcos       = guest("fedora-coreos")
)

func guest(name string) image.Guest {
	for _, e := range image.Catalog() {
		if e.Name == name {
			return e.Guest
		}
	}
	panic("the catalog has no " + name)
}

// Keys of no use: nothing here looks into them.
const (
	userKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLEexampleEXAMPLEexampleEXAMPLEexampl hostctl"
	hostPub = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHOSTkeyHOSTkeyHOSTkeyHOSTkeyHOSTkeyHOSTk core-01"
	hostKey = "-----BEGIN OPENSSH PRIVATE KEY-----\nZXhhbXBsZQ==\n-----END OPENSSH PRIVATE KEY-----\n"
)

func input(g image.Guest) cloudconfig.Input {
	return cloudconfig.Input{
		Hostname:       "core-01",
		DockerPort:     2375,
		Guest:          g,
		AuthorizedKeys: []string{userKey},
		HostKey:        cloudconfig.HostKey{Private: hostKey, Public: hostPub},
	}
}

func mac(t testing.TB, s string) net.HardwareAddr {
	t.Helper()
	m, err := net.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRender(t *testing.T) {
	t.Parallel()
	withNICs := func(g image.Guest) cloudconfig.Input {
		in := input(g)
		in.NICs = []cloudconfig.NIC{
			{Name: "dev", MAC: mac(t, "52:54:00:ab:cd:01"), Addresses: []netip.Prefix{netip.MustParsePrefix("172.28.8.101/24")}},
			{Name: "v6", MAC: mac(t, "52:54:00:ab:cd:02"), Addresses: []netip.Prefix{netip.MustParsePrefix("fd00:28::101/64")}},
			{Name: "lan", MAC: mac(t, "52:54:00:ab:cd:03")},
		}
		return in
	}
	withoutDocker := func(g image.Guest) cloudconfig.Input {
		in := input(g)
		in.DockerPort = 0
		return in
	}
	cluster := func(g image.Guest) cloudconfig.Input {
		in := withNICs(g)
		in.DockerAddresses = []netip.Addr{
			netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("172.28.8.101"),
		}
		in.Hosts = []cloudconfig.Host{
			{Name: "core-01", Address: netip.MustParseAddr("172.28.8.101")},
			{Name: "core-02", Address: netip.MustParseAddr("172.28.8.102")},
		}
		return in
	}
	otherPort := input(dockerhost)
	otherPort.DockerPort = 4243

	for name, in := range map[string]cloudconfig.Input{
		"dockerhost":              input(dockerhost),
		"dockerhost-port":         otherPort,
		"dockerhost-no-docker":    withoutDocker(dockerhost),
		"dockerhost-cluster":      cluster(dockerhost),
		"flatcar":                 input(flatcar),
		"flatcar-nics":            withNICs(flatcar),
		"flatcar-no-docker":       withoutDocker(flatcar),
		"fedora-coreos":           input(fcos),
		"fedora-coreos-nics":      withNICs(fcos),
		"fedora-coreos-no-docker": withoutDocker(fcos),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := cloudconfig.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, name, in.Guest, got)

			again, err := cloudconfig.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Ignition, again.Ignition) || !bytes.Equal(got.Butane, again.Butane) {
				t.Error("two renderings of one input differ")
			}
		})
	}
}

// compare holds a rendered config against its golden files and against what
// Ignition itself says.
func compare(t *testing.T, name string, g image.Guest, got cloudconfig.Result) {
	t.Helper()
	golden.Equal(t, name+".bu.golden", string(got.Butane))
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, got.Ignition, "", "  "); err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, name+"-"+g.IgnitionSpec+".ign.golden", pretty.String()+"\n")
	parse(t, got.Ignition)
}

// parse reads a config as the guest does and wants no complaint, not even a
// warning.
func parse(t *testing.T, config []byte) types.Config {
	t.Helper()
	cfg, r, err := ignition3_3.Parse(config)
	if err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	if len(r.Entries) > 0 {
		t.Errorf("ignition has remarks:\n%s", r)
	}
	return cfg
}

// contents returns a file of the config by its path.
func contents(t *testing.T, cfg types.Config, path string) (types.File, string) {
	t.Helper()
	for _, f := range cfg.Storage.Files {
		if f.Path != path {
			continue
		}
		data, err := dataurl.DecodeString(*f.Contents.Source)
		if err != nil {
			t.Fatal(err)
		}
		return f, string(data.Data)
	}
	t.Fatalf("the config has no %s", path)
	return types.File{}, ""
}

func TestHostKeyIsPinned(t *testing.T) {
	t.Parallel()
	for _, g := range []image.Guest{dockerhost, flatcar, fcos} {
		t.Run(g.Family, func(t *testing.T) {
			t.Parallel()
			in := input(g)
			in.HostKey.Private = strings.TrimSpace(hostKey) // OpenSSH refuses a key file without a final newline
			got, err := cloudconfig.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			cfg := parse(t, got.Ignition)
			for path, want := range map[string]struct {
				mode     int
				contents string
			}{
				"/etc/ssh/ssh_host_ed25519_key":     {0o600, hostKey},
				"/etc/ssh/ssh_host_ed25519_key.pub": {0o644, hostPub + "\n"},
			} {
				f, data := contents(t, cfg, path)
				if *f.Mode != want.mode || data != want.contents {
					t.Errorf("%s: mode %o, %q; want mode %o, %q", path, *f.Mode, data, want.mode, want.contents)
				}
				if f.User.ID != nil || f.User.Name != nil {
					t.Errorf("%s does not belong to root", path)
				}
			}
		})
	}
}

func TestUnsupportedSpec(t *testing.T) {
	t.Parallel()
	g := fcos
	g.IgnitionSpec, g.ButaneVersion = "3.7.0", "1.8.0"
	_, err := cloudconfig.Render(input(g))
	want := `config of "core-01": cannot write Ignition 3.7.0 (Butane fcos 1.8.0) for fedora-coreos, ` +
		`only 3.3.0 (Butane flatcar 1.0.0) or 3.3.0 (Butane fcos 1.4.0)`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spoil func(*cloudconfig.Input)
		want  string
	}{
		{"no key", func(in *cloudconfig.Input) { in.AuthorizedKeys = nil },
			`config of "core-01": no authorised key for user "core"`},
		{"no host key", func(in *cloudconfig.Input) { in.HostKey.Private = "" },
			`config of "core-01": no SSH host key`},
		{"unknown updater", func(in *cloudconfig.Input) { in.Guest.Updates = "cron" },
			`config of "core-01": unknown updater "cron"`},
		{"unknown network files", func(in *cloudconfig.Input) {
			in.Guest.NICs = "ifupdown"
			in.NICs = []cloudconfig.NIC{{Name: "dev"}}
		}, `config of "core-01": network "dev": unknown format "ifupdown" of network files`},
		// What Ignition refuses comes back with its place in the Butane document.
		{"two cards of one name", func(in *cloudconfig.Input) {
			in.NICs = []cloudconfig.NIC{{Name: "dev"}, {Name: "dev"}}
		}, `config of "core-01": butane fcos 1.4.0: config generated was invalid: ` +
			`line 41: storage.files.4: duplicate entry defined`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := input(dockerhost)
			tt.spoil(&in)
			_, err := cloudconfig.Render(in)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestPointer(t *testing.T) {
	t.Parallel()
	config := []byte(`{"ignition":{"version":"3.3.0"}}`)
	const source = "http://10.0.2.2:49152/config/core-01"
	for _, g := range []image.Guest{dockerhost, flatcar, fcos} {
		t.Run(g.Family, func(t *testing.T) {
			t.Parallel()
			got, err := cloudconfig.Pointer(g, source, config)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) > cloudconfig.PointerLimit {
				t.Errorf("%d bytes", len(got))
			}
			golden.Equal(t, "pointer-3.3.0.ign.golden", string(got)+"\n")
			replace := parse(t, got).Ignition.Config.Replace
			if *replace.Source != source {
				t.Errorf("source %s", *replace.Source)
			}
		})
	}
}

func TestPointerRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, source, want string }{
		{"no source", "", "pointer config: no source"},
		{"other scheme", "file:///etc/passwd",
			"pointer config: butane flatcar 1.0.0: config generated was invalid: line 6: ignition.config.replace.source: invalid url scheme"},
		{"too long", "http://10.0.2.2/" + strings.Repeat("x", 1000),
			"pointer config: 1245 bytes, at most 1023 fit: the source URL is too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := cloudconfig.Pointer(flatcar, tt.source, nil)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// Whatever stands in a name or key reaches the guest as it is, or is refused:
// nothing may be lost or turned into structure on the way through YAML.
func FuzzRender(f *testing.F) {
	f.Add("core-01", userKey)
	f.Add("yes", "ssh-ed25519 AAAA it's: a \"comment\" # really")
	f.Add("0x10", "- key")
	f.Add("1e3", "~")
	f.Add("a: b\nc: |", "{}")
	f.Add("  leading", "\ttab")
	f.Add("\u0085\u2028", "\x00")
	f.Add("\xff", "!!binary x")
	f.Fuzz(func(t *testing.T, name, key string) {
		in := input(fcos)
		in.Hostname = name
		in.AuthorizedKeys = []string{key}
		got, err := cloudconfig.Render(in)
		if err != nil {
			return
		}
		cfg := parse(t, got.Ignition)
		if _, host := contents(t, cfg, "/etc/hostname"); utf8.ValidString(name) && host != strings.TrimRight(name, "\n")+"\n" {
			t.Errorf("hostname %q became %q", name, host)
		}
		if got := string(cfg.Passwd.Users[0].SSHAuthorizedKeys[0]); utf8.ValidString(key) && got != strings.TrimSpace(key) {
			t.Errorf("key %q became %q", key, got)
		}
	})
}
