//go:build !windows

package qemu_test

import (
	"syscall"
	"testing"
)

// freeze makes a process hang.
func freeze(t *testing.T, pid int) {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
}
