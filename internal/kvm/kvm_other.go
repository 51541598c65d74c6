//go:build !linux

package kvm

import "errors"

// Probe knows no KVM here.
func Probe() (doubt string, err error) { return "", errors.New("KVM is Linux's") }
