//go:build !linux && !darwin

package mirror

import (
	"io/fs"
	"os"
)

// modesCount is false where files have no permissions of their own.
const modesCount = false

func changeTime(fs.FileInfo) int64 { return 0 }

// rootIdentity tells nothing here: what looks deleted was.
func rootIdentity(*os.Root) (string, error) { return "-", nil }
