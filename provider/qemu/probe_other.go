//go:build !linux && !darwin && !windows

package qemu

// hardware knows no accelerator here.
func hardware() acceleration { return acceleration{} }
