//go:build !linux && !darwin

package watch

import (
	"io/fs"
	"time"
)

// idOf returns 0: files are not told apart.
func idOf(fs.FileInfo) uint64 { return 0 }

// changeOf returns when a file was changed last, and no owner.
func changeOf(info fs.FileInfo) (time.Time, uint64) { return info.ModTime(), 0 }

const limitHint = "until then everything is looked at every few seconds"
