package project

import "path/filepath"

// MirrorFile is where the mirror of a machine's share remembers what both sides
// had when they were last alike. It goes with the machine.
func (p *Project) MirrorFile(machine, share string) string {
	return filepath.Join(p.MachineDir(machine), share+mirrorExt)
}
