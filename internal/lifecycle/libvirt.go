package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
)

// recordLibvirt keeps where a project's libvirt machines are, before the first
// of them exists there: the commands that stop them do not read the file.
func (e *Engine) recordLibvirt(s *project.State, provider string) {
	if provider == machinefile.LibvirtProvider {
		s.LibvirtURI, s.LibvirtPool = e.Libvirt.URI, e.Libvirt.Pool
	}
}

// checkLibvirt refuses another libvirt while machines are at the one before:
// they would be out of sight there.
func (e *Engine) checkLibvirt(s *project.State) error {
	var made []string
	for name, ms := range s.Machines {
		if ms.Provider == machinefile.LibvirtProvider {
			made = append(made, name)
		}
	}
	if len(made) == 0 || s.LibvirtURI == "" {
		return nil
	}
	slices.Sort(made)
	for _, v := range []struct{ field, was, is string }{
		{"uri", s.LibvirtURI, e.Libvirt.URI},
		{"pool", s.LibvirtPool, e.Libvirt.Pool},
	} {
		if v.is == "" || v.is == v.was {
			continue
		}
		err := fmt.Errorf("%s of libvirt changed from %s to %s, and %s is at the former", v.field, orUnset(v.was), v.is, strings.Join(made, ", "))
		advice := fmt.Sprintf("destroy what is there, with its data (hostctl destroy %s), or go back to %q", strings.Join(made, " "), v.was)
		return refusal("Machines are at another libvirt", err, advice, e.Libvirt.RangeOf(v.field))
	}
	return nil
}
