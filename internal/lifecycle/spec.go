package lifecycle

import (
	"cmp"
	"fmt"
	"strings"

	units "github.com/docker/go-units"

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

		DockerPort: DockerPort(m),
	}
	for _, f := range m.Forwards {
		s.Forwards = append(s.Forwards, network.Forward{
			Name: f.Name, Protocol: f.Protocol, HostIP: f.HostIP, HostPort: f.HostPort, GuestPort: f.GuestPort,
		})
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

// effective is what the next start of an existing machine follows: all of the
// machine file but what only a new machine can take on.
func effective(applied, wanted project.Spec) project.Spec {
	wanted.Image = applied.Image
	wanted.DockerPort = applied.DockerPort
	if wanted.Disk < applied.Disk {
		wanted.Disk = applied.Disk
	}
	return wanted
}

// change is one value of the machine file that a machine does not follow yet.
type change struct {
	field    string
	from, to string
	replace  bool // only a new machine can take it on
}

func (c change) String() string {
	how := "hostctl reload applies it"
	if c.replace {
		how = "only a new machine takes it on: hostctl destroy, then hostctl up"
	}
	return fmt.Sprintf("%s changed from %s to %s; %s", c.field, c.from, c.to, how)
}

// pending lists what the machine file asks for and the machine was not
// started with, in the order of the file's documentation.
func pending(applied, wanted project.Spec) []change {
	var out []change
	differ := func(field, from, to string, replace bool) {
		if from != to {
			out = append(out, change{field, orUnset(from), orUnset(to), replace})
		}
	}
	differ("image", applied.Image, wanted.Image, true)
	differ("cpus", fmt.Sprint(applied.CPUs), fmt.Sprint(wanted.CPUs), false)
	differ("memory", bytesText(applied.Memory), bytesText(wanted.Memory), false)
	differ("disk", bytesText(applied.Disk), bytesText(wanted.Disk), wanted.Disk < applied.Disk)
	differ("accel", applied.Accel, wanted.Accel, false)
	differ("docker port", portText(applied.DockerPort), portText(wanted.DockerPort), true)
	differ("forwards", forwardsText(applied.Forwards), forwardsText(wanted.Forwards), false)
	return out
}

func orUnset(s string) string {
	if s == "" {
		return "unset"
	}
	return s
}

func bytesText(n uint64) string {
	if n == 0 {
		return ""
	}
	return units.BytesSize(float64(n))
}

func portText(p uint16) string {
	if p == 0 {
		return ""
	}
	return fmt.Sprint(p)
}

func forwardsText(fs []network.Forward) string {
	texts := make([]string, len(fs))
	for i, f := range fs {
		texts[i] = f.Name + " " + f.String()
	}
	return strings.Join(texts, ", ")
}
