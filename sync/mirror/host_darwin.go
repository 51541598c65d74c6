package mirror

import (
	"fmt"
	"os"
	"syscall"
)

// modesCount is false where files have no permissions of their own.
const modesCount = true

// rootIdentity tells a folder from one that was made in its place.
func rootIdentity(root *os.Root) (string, error) {
	info, err := root.Stat(".")
	if err != nil {
		return "", err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d:%d:%d", s.Dev, s.Ino, s.Birthtimespec.Nano()), nil
	}
	return "-", nil
}
