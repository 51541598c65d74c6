//go:build !windows

package qemu

import (
	"context"
	"os"

	"github.com/shirou/gopsutil/v4/process"
)

// ours reports whether the process is this user's alone. Where the system
// tells the real user too, that one counts as well: somebody else's set-user-id
// program has our effective one, and the command line that they gave it.
func ours(ctx context.Context, ps *process.Process) bool {
	uids, err := ps.UidsWithContext(ctx)
	if err != nil || len(uids) == 0 {
		return false
	}
	for _, uid := range uids {
		if int(uid) != os.Geteuid() {
			return false
		}
	}
	return true
}
