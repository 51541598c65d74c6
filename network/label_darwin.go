package network

import (
	"context"
	"strings"

	"github.com/hostctl/hostctl/internal/run"
)

// labels returns which interfaces are the hardware's, and their labels. The
// others are tunnels, AirDrop's, and those of virtual machines.
func labels(ctx context.Context) func(name string) (string, bool) {
	out, err := run.Exec{}.Run(ctx, "/usr/sbin/networksetup", "-listallhardwareports")
	if err != nil {
		// The labels are for people; the interfaces are there without them.
		return func(name string) (string, bool) { return "", strings.HasPrefix(name, "en") }
	}
	known := hardwarePorts(string(out))
	return func(name string) (string, bool) {
		label, ok := known[name]
		return label, ok
	}
}
