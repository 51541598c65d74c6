// Package kvm knows whether this host's KVM runs guests.
package kvm
