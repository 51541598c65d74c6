//go:build e2e

package e2e

import (
	"regexp"
	"testing"

	"github.com/hostctl/hostctl/internal/lab"
)

// onEach runs the test on every provider that boots guests here.
func onEach(t *testing.T, test func(t *testing.T, provider string)) {
	t.Run("qemu", func(t *testing.T) { test(t, "qemu") })
	t.Run("libvirt", func(t *testing.T) {
		lab.Libvirtd(t)
		test(t, "libvirt")
	})
}

var machineHeader = regexp.MustCompile(`(?m)^machine ".*" \{$`)

// on returns the machine file with its machines on the provider: with one line
// more in each machine block, unless it is the default.
func on(provider, machineFile string) string {
	if provider == "qemu" {
		return machineFile
	}
	return inMachines(machineFile, `provider = "`+provider+`"`)
}

// inMachines adds lines to every machine block.
func inMachines(machineFile, lines string) string {
	return machineHeader.ReplaceAllString(machineFile, "$0\n"+lines)
}
