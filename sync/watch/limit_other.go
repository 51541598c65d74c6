//go:build !linux && !darwin

package watch

const limitHint = "until then everything is looked at every few seconds"
