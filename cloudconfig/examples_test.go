package cloudconfig_test

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
)

// Every machine of every example renders, and what it renders to is on record.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../examples/*/" + machinefile.FileName)
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	var catalog []machinefile.CatalogImage
	for _, e := range image.Catalog() {
		catalog = append(catalog, machinefile.CatalogImage{Name: e.Name})
	}
	for _, path := range files {
		example := filepath.Base(filepath.Dir(path))
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			config, _, diags := machinefile.Load(path, machinefile.Options{Catalog: catalog})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			var hosts []cloudconfig.Host
			for _, m := range config.Machines {
				for _, a := range m.Networks {
					hosts = append(hosts, cloudconfig.Host{Name: m.Name, Address: a.Address})
				}
			}
			for _, m := range config.Machines {
				in := input(guest(m.Image.Source))
				in.Hosts = hosts
				for _, a := range m.Networks {
					in.NICs = append(in.NICs, cloudconfig.NIC{
						Name: a.Network.Name, MAC: network.MAC(m.Name, a.Network.Name),
						Addresses: []netip.Prefix{netip.PrefixFrom(a.Address, a.Network.CIDR.Bits())},
					})
				}
				in.Hostname, in.DockerPort = m.Name, 0
				if m.Docker.Enabled {
					in.DockerPort = m.Docker.Port
				}
				got, err := cloudconfig.Render(in)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, filepath.Join("examples", example, m.Name), in.Guest, got)
			}
		})
	}
}
