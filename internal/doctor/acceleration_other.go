//go:build !linux

package doctor

// mendAcceleration has nothing to add to the provider's notice.
func mendAcceleration() (why, fix string) { return "", "" }
