package image

import (
	"fmt"
	"io/fs"

	"github.com/hostctl/hostctl/internal/inode"
)

// changeOf tells a file from one that was put in its place, and from itself
// after a write whose time was set back; "" where nothing is known beyond size
// and time.
func changeOf(info fs.FileInfo) string {
	i, ok := inode.Of(info)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d.%09d", i.Number, i.Changed.Unix(), i.Changed.Nanosecond())
}
