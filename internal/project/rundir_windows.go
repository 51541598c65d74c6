package project

import (
	"io/fs"
	"os"
)

// Windows keeps temporary directories per user, closed by their ACL, and Go's
// permission bits say nothing about it.
const checksOwners = false

func tempDirs() []string { return []string{os.TempDir()} }

func tempRunParent() string { return runParent }

func private(fs.FileInfo) bool { return true }
