//go:build !linux && !darwin

package image

import "io/fs"

// changeOf knows nothing beyond size and time here.
func changeOf(fs.FileInfo) string { return "" }
