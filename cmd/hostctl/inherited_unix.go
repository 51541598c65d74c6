//go:build unix

package main

import "syscall"

// keepInherited keeps files that were open when hostctl was started, such as
// the lock of "flock FILE hostctl up" or a script's terminal, from the programs
// that it starts. Guests and the agent outlive it, and would hold them.
func keepInherited() {
	for fd := 3; fd < 256; fd++ {
		syscall.CloseOnExec(fd) // what is not open is left alone
	}
}
