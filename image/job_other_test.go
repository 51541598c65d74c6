//go:build !linux

package image

import "syscall"

func (j *job) attributes() *syscall.SysProcAttr { return nil }

func (j *job) mount() error { return nil }
