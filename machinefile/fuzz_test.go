package machinefile

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// A file either gives a config that later stages can rely on, or mistakes that
// can all be shown.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.hcl", "../examples/*/*.hcl"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatalf("no seeds in %s: %v", pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	// The whole files are all wrong somewhere; what is right in them must be
	// reached, too.
	f.Add([]byte(`
		provider "libvirt" { uri = "qemu+ssh://core@build.example/system" }
		network "hostonly" "dev" { cidr = "172.28.8.0/24" }
		network "bridged" "lan" { interface = ["eth0", "en1: Wi-Fi (AirPort)"] }
		share "code" {
		  host          = "~/code"
		  guest         = "/home/core/share"
		  create        = true
		  mount_options = ["nolock", "vers=3,noatime", "udp"]
		}
		machine "core" {
		  count    = 2
		  image    = "dockerhost"
		  provider = "libvirt"
		  nat      = false
		  network "dev" { address = cidrhost("172.28.8.0/24", 101 + index) }
		  network "lan" {}
		  docker { publish_ports = false }
		  share "data" {
		    type      = "sftp"
		    host      = "data/${index}"
		    guest     = "/srv/data"
		    direction = "both"
		    ignore    = ["*.o"]
		  }
		  forward "web" {
		    guest = "8000-8001"
		    host  = "${8000 + 2 * index}-${8001 + 2 * index}"
		  }
		}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		config, src, diags := load("machine.hcl", text, Options{Catalog: testCatalog})
		if diags.HasErrors() != (config == nil) {
			t.Fatalf("config %v with diagnostics %v", config, diags)
		}
		for _, d := range diags {
			if d.Subject == nil || d.Summary == "" || d.Detail == "" {
				t.Errorf("incomplete: %#v", d)
			}
		}
		var shown strings.Builder
		if err := WriteDiagnostics(&shown, src, diags, 78, true); err != nil {
			t.Fatal(err)
		}
		if config == nil {
			return
		}
		names := map[string]bool{}
		for _, m := range config.Machines {
			if m.Image == nil || m.Image.Source == "" || m.CPUs < 1 || m.Memory < MinMemory || nameFault(m.Name) != "" || names[m.Name] {
				t.Fatalf("unusable machine: %+v", m)
			}
			names[m.Name] = true
			for _, at := range m.Networks {
				hostOnly := at.Network.Kind == HostOnly && at.Network.CIDR.IsValid() && at.Network.CIDR == at.Network.CIDR.Masked()
				if !hostOnly && at.Network.Kind != Bridged || networkNameFault(at.Network.Name) != "" ||
					at.Address.IsValid() && !at.Network.CIDR.Contains(at.Address) {
					t.Fatalf("unusable network: %+v", at)
				}
			}
			for i, share := range m.Shares {
				if !filepath.IsAbs(share.Host) || !path.IsAbs(share.Guest) || path.Clean(share.Guest) != share.Guest || share.Name == "" ||
					(share.Type == NFS) != (share.Server != "") || (share.Type == SFTP) != (share.Direction != "") ||
					strings.ContainsAny(strings.Join(share.MountOptions, ""), ", \n%") || strings.ContainsAny(share.Guest, "\n\\") {
					t.Fatalf("unusable share: %+v", share)
				}
				for _, other := range m.Shares[:i] {
					if other.Name == share.Name || other.Guest == share.Guest || within(other.Guest, share.Guest) || within(share.Guest, other.Guest) {
						t.Fatalf("shares in each other's way: %+v, %+v", other, share)
					}
				}
			}
			forwards := map[string]bool{}
			for _, forward := range m.Forwards {
				if forwards[forward.Name] {
					t.Fatalf("two forwards are called %s", forward.Name)
				}
				forwards[forward.Name] = true
				if forward.GuestPort == 0 || forward.HostPort == 0 || !forward.HostIP.IsValid() {
					t.Fatalf("unusable forward: %+v", forward)
				}
			}
		}
	})
}
