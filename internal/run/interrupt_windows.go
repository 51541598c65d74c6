package run

import "os"

// Windows has no SIGTERM for console programs of another group.
func interrupt(p *os.Process) error { return p.Kill() }
