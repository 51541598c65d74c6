//go:build !linux && !darwin && !windows

package qemu

import "runtime"

// hardware knows no accelerator here.
func hardware() acceleration { return acceleration{arch: runtime.GOARCH} }
