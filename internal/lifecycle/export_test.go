package lifecycle

import (
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
)

// Made is the state of a machine that follows the file.
func Made(m *machinefile.Machine) project.MachineState {
	return project.MachineState{Provider: m.Provider, Spec: specOf(m)}
}

// MadeDomain is a domain of that name.
func MadeDomain(m *machinefile.Machine) provider.Domain {
	return provider.Domain{Name: m.Name, CPUs: m.CPUs}
}

// LastWords is lastWords.
func LastWords(log string) string { return lastWords(log) }
