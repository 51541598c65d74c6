// Command watcher prints what inotify tells of the folder that it is given and
// of those in it, as programs do that build anew what has changed: a line
// "EVENT PATH" each.
package main

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

var events = []struct {
	mask uint32
	name string
}{
	{syscall.IN_CREATE, "create"}, {syscall.IN_MODIFY, "modify"}, {syscall.IN_CLOSE_WRITE, "close"}, {syscall.IN_DELETE, "delete"},
	{syscall.IN_MOVED_FROM, "delete"}, {syscall.IN_MOVED_TO, "create"}, {syscall.IN_ATTRIB, "attributes"},
}

func main() {
	if err := watch(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func watch(root string) error {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
	if err != nil {
		return err
	}
	paths := map[int32]string{}
	add := func(top string) error {
		return filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			var mask uint32
			for _, e := range events {
				mask |= e.mask
			}
			wd, err := syscall.InotifyAddWatch(fd, p, mask)
			paths[int32(wd)] = p
			return err
		})
	}
	if err := add(root); err != nil {
		return err
	}
	fmt.Println("watching", root)
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.Read(fd, buf)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= syscall.SizeofInotifyEvent; {
			wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			size := syscall.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			path := filepath.Join(paths[wd], strings.TrimRight(string(b[syscall.SizeofInotifyEvent:size]), "\x00"))
			b = b[size:]
			for _, e := range events {
				if mask&e.mask != 0 {
					fmt.Println(e.name, path)
				}
			}
			if mask&syscall.IN_ISDIR != 0 && mask&(syscall.IN_CREATE|syscall.IN_MOVED_TO) != 0 {
				if err := add(path); err != nil {
					return err
				}
			}
		}
	}
}
