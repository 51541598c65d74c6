package lifecycle

import (
	"cmp"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/network"
)

// specOf is what the machine file asks for, as the state records it.
func specOf(m *machinefile.Machine) project.Spec {
	s := project.Spec{
		Image:  imageName(m.Image),
		CPUs:   m.CPUs,
		Memory: uint64(m.Memory),
		Disk:   uint64(cmp.Or(m.Disk, machinefile.DefaultDisk)),
		Accel:  m.Accel,

		DockerPort:   DockerPort(m),
		PublishPorts: m.Docker.Enabled && m.Docker.PublishPorts,
		NoNAT:        !m.NAT,
	}
	s.Shares = shareSpecs(m)
	for _, f := range m.Forwards {
		s.Forwards = append(s.Forwards, network.Forward{
			Name: f.Name, Protocol: f.Protocol, HostIP: f.HostIP, HostPort: f.HostPort, GuestPort: f.GuestPort,
		})
	}
	for _, at := range m.Networks {
		n := project.NetworkSpec{Name: at.Network.Name, CIDR: at.Network.CIDR, Address: at.Address}
		if at.Network.Kind == machinefile.Bridged {
			n.Interfaces = at.Network.Interfaces
		}
		s.Networks = append(s.Networks, n)
		// On other networks it makes no difference: see renderConfig.
		s.DockerInsecure = s.DockerInsecure || !n.CIDR.IsValid() && m.Docker.Enabled && m.Docker.Insecure
	}
	return s
}

// DockerPort is the guest port that Docker listens on, 0 when it is off.
func DockerPort(m *machinefile.Machine) uint16 {
	if !m.Docker.Enabled {
		return 0
	}
	return m.Docker.Port
}

// imageName names an image so that two differ when their disks may.
func imageName(i *machinefile.Image) string {
	parts := []string{i.Source}
	for _, p := range []string{i.Channel, i.Stream, i.Version, i.Arch, i.Checksum} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, " ")
}

// startable is what the next start of an existing machine follows: all of the
// machine file but what only a new machine can take on.
func startable(applied, wanted project.Spec) project.Spec {
	wanted.Image = applied.Image
	wanted.DockerPort = applied.DockerPort
	wanted.DockerInsecure = applied.DockerInsecure
	wanted.NoNAT = applied.NoNAT
	wanted.Disk = max(wanted.Disk, applied.Disk)
	networks := slices.Clone(applied.Networks)
	for i, n := range networks {
		// The guest does not know which of the host's interfaces it is behind.
		if w, ok := networkCalled(wanted.Networks, n.Name); ok && !n.CIDR.IsValid() && !w.CIDR.IsValid() {
			networks[i].Interfaces = w.Interfaces
		}
	}
	wanted.Networks = networks
	wanted.Shares = known(applied.Shares, wanted.Shares)
	return wanted
}

// changeable is what a running machine follows of the machine file at once.
func changeable(applied, wanted project.Spec) project.Spec {
	applied.Forwards = wanted.Forwards
	applied.PublishPorts = wanted.PublishPorts
	applied.Shares = known(applied.Shares, wanted.Shares)
	return applied
}

// known has shares whose folder stays keep the names by which guests know them.
func known(applied, wanted []project.ShareSpec) []project.ShareSpec {
	out := slices.Clone(wanted)
	for i, s := range out {
		if was := shareCalled(applied, s.Name); was != nil && was.Host == s.Host && s.Embedded() {
			out[i].Was = was.Was
		}
	}
	return out
}

func networkCalled(networks []project.NetworkSpec, name string) (project.NetworkSpec, bool) {
	i := slices.IndexFunc(networks, func(n project.NetworkSpec) bool { return n.Name == name })
	if i < 0 {
		return project.NetworkSpec{}, false
	}
	return networks[i], true
}

// bridged reports whether the machine is on a network with strangers.
func bridged(s project.Spec) bool {
	return slices.ContainsFunc(s.Networks, func(n project.NetworkSpec) bool { return !n.CIDR.IsValid() })
}
