// Package transfer copies files and trees between the host and a guest, over
// SFTP.
//
// What is copied where follows cp -r; see [place]. Permission bits and times of
// modification (whole seconds, all that SFTP carries) are kept, links are copied
// as links. Owners are not: files belong to whoever copies.
//
// A file is written under a temporary name and then renamed: whoever looks sees
// the old file or the new one. A link in the place of a file is replaced, not
// followed. Directories that were there keep their mode and what else is in
// them. The first error ends a transfer; what was copied until then stays.
package transfer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pkg/sftp"
)

// Result is what was copied.
type Result struct {
	Files       int   `json:"files"`
	Directories int   `json:"directories"`
	Links       int   `json:"links"`
	Bytes       int64 `json:"bytes"`
	// Skipped are sockets, devices and the like, which SFTP cannot make.
	Skipped []string `json:"skipped"`
}

// Options are the same for both ways.
type Options struct {
	// Progress is told, from several goroutines, how many bytes of how many
	// are copied; total is 0 while it is unknown. nil: nobody wants to know.
	Progress func(done, total int64)
}

// SFTP are the options that a client should have: many requests under way for
// each file.
func SFTP() []sftp.ClientOption {
	return []sftp.ClientOption{sftp.UseConcurrentWrites(true), sftp.UseFstat(true)}
}

// Upload copies files and trees of the host to dst in the guest, which is
// relative to where the SFTP server started: the user's home directory. When
// ctx ends, what was begun is removed, and the cause is returned; a guest that
// does not answer then loses the client.
func Upload(ctx context.Context, c *sftp.Client, sources []string, dst string, o Options) (Result, error) {
	defer hangUp(ctx, c)()
	dir, names, err := place(guest{c}.stat, slashed(sources), dst)
	if err != nil {
		return Result{}, err
	}
	return run(ctx, host{}, sources, guestDir{guest{c}, dir}, names, o)
}

// Download copies files and trees of the guest to dst on the host. Nothing that
// the guest says makes it write outside dst. As for ctx, see [Upload].
func Download(ctx context.Context, c *sftp.Client, sources []string, dst string, o Options) (Result, error) {
	defer hangUp(ctx, c)()
	dir, names, err := place(hostStat, sources, filepath.ToSlash(dst))
	if err != nil {
		return Result{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", dir, cause(err))
	}
	defer func() { _ = root.Close() }() // nothing is written through it itself
	return run(ctx, guest{c}, sources, hostDir{root}, names, o)
}

func slashed(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = filepath.ToSlash(p)
	}
	return out
}

// hangUpAfter is how long a guest may take to remove what was begun when a
// transfer is to end.
const hangUpAfter = 3 * time.Second

// hangUp closes c some time after ctx has ended, unless it is called off: SFTP's
// calls know no context, and a guest may never answer.
func hangUp(ctx context.Context, c *sftp.Client) (callOff func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		grace := time.NewTimer(hangUpAfter)
		defer grace.Stop()
		select {
		case <-done:
		case <-grace.C:
			_ = c.Close() // whoever waits for it gets an error
		}
	})
	return func() {
		close(done)
		stop()
	}
}
