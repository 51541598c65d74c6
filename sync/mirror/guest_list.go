package mirror

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/sshclient"
)

const (
	// maxEntries and maxRecord bound what a guest can make hostctl hold.
	maxEntries = 2_000_000
	maxRecord  = 16 << 10
)

// listScript makes the folder ($1) if $3 is not empty, says which copy it is
// ($2 becomes the name of one that has none) and lists it, all in one round
// trip. What an earlier run left half done goes; its parts of large files stay.
const listScript = `
if ! cd -- "$1" 2>/dev/null; then
	[ -n "$3" ] || { printf 'hostctl-mirror none\0'; exit 0; }
	d=$1
	until [ -z "$d" ] || [ -e "$d" ] || [ -L "$d" ]; do d=${d%/*}; done
	[ -z "$d" ] || [ -d "$d" ] || { printf '%s' "$d" >&2; exit 8; }
	mkdir -p -- "$1" 2>/dev/null || { sudo -n mkdir -p -- "$1" && sudo -n chown "$(id -u):$(id -g)" -- "$1"; } || exit 9
	cd -- "$1" || exit 9
fi
id=
[ ! -f ` + guestDir + `/id ] || read -r id <` + guestDir + `/id
made=
if [ -z "$id" ]; then
	made=made
	if [ -n "$3" ]; then
		mkdir -p ` + guestDir + ` && printf '*\n' >` + guestDir + `/.gitignore && printf '%s\n' "$2" >` + guestDir + `/id || exit 9
		id=$2
	fi
fi
[ -z "$3" ] || for s in ` + guestDir + `/stage-*; do [ ! -e "$s" ] || rm -rf -- "$s"; done
tar=
command -v tar >/dev/null && tar=tar
printf 'hostctl-mirror %s %s %s\0' "$id" "$made" "$tar"
exec find . -mindepth 1 -path ./` + guestDir + ` -prune -o -printf '%y %m %s %T@ %P\0%l\0'
`

// list returns what is in the folder; prepare makes it. proposed is the
// identity of a copy that is made now.
func (g *guest) list(ctx context.Context, proposed string, prepare bool) (tree, error) {
	g.incomplete = "" // what an earlier listing could not read
	making := ""
	if prepare {
		making = "make"
	}
	r, w := io.Pipe()
	found := tree{}
	parsed := make(chan error, 1)
	go func() {
		err := g.parse(bufio.NewReaderSize(r, 64<<10), found)
		r.CloseWithError(err)
		parsed <- err
	}()
	err := g.run(ctx, nil, w, listScript, g.root, proposed, making)
	_ = w.Close() // it never fails
	perr := <-parsed
	var failed *scriptError
	switch {
	case err != nil && (ctx.Err() != nil || sshclient.Lost(err)):
		return nil, err // what was cut off makes no sense
	case errors.Is(perr, errListing):
		return nil, perr
	case errors.As(err, &failed) && failed.exit == 8:
		return nil, g.inTheWay(failed.said)
	case errors.As(err, &failed) && failed.exit == 9:
		return nil, g.folderError(err)
	case errors.As(err, &failed) && g.shell && failed.exit == 1 && perr == nil:
		g.incomplete = failed.said // find could not read all of it
		return found, nil
	case errors.As(err, &failed) || err == nil && perr != nil:
		// No shell, or no find that can do this.
		return g.walk(ctx, proposed, prepare)
	}
	return found, err
}

var (
	errListing   = errors.New("the guest's listing of the folder makes no sense")
	errNoListing = errors.New("no listing")
)

// parse reads the output of listScript. A guest may write anything.
func (g *guest) parse(r *bufio.Reader, found tree) error {
	record := func() (string, error) {
		data, err := r.ReadSlice(0)
		if err != nil {
			if errors.Is(err, bufio.ErrBufferFull) || len(data) > 0 {
				err = errListing
			}
			return "", err
		}
		if len(data) > maxRecord {
			return "", errListing
		}
		return string(data[:len(data)-1]), nil
	}
	head, err := record()
	head, ok := strings.CutPrefix(head, "hostctl-mirror ")
	if err != nil || !ok {
		return errNoListing
	}
	g.shell = true
	if head == "none" {
		g.made = true
		return nil
	}
	fields := strings.Split(head, " ")
	if len(fields) != 3 || !validID(fields[0]) && fields[0] != "" {
		return errListing
	}
	g.id, g.made, g.tar = fields[0], fields[1] != "" || fields[0] == "", fields[2] != ""
	for {
		line, err := record()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var target string
		if err == nil {
			target, err = record()
		}
		if err != nil {
			return errListing
		}
		p, e, err := parseEntry(line, target)
		if err != nil {
			return err
		}
		if err := g.add(found, p, e); err != nil {
			return err
		}
	}
}

// validID keeps an identity to what can stand in the base.
func validID(id string) bool {
	return id != "" && len(id) <= 64 && strings.Trim(id, "0123456789abcdef-") == ""
}

// parseEntry reads "f 644 12 1700000000.1234567890 a/b".
func parseEntry(line, target string) (string, *entry, error) {
	var fields [4]string
	for i := range fields {
		var ok bool
		if fields[i], line, ok = strings.Cut(line, " "); !ok {
			return "", nil, errListing
		}
	}
	mode, err := strconv.ParseUint(fields[1], 8, 32)
	if err != nil || len(fields[0]) != 1 || !validPath(line) {
		return "", nil, fmt.Errorf("%w: %.100q", errListing, line)
	}
	e := &entry{kind: kind(fields[0][0]), mode: uint32(mode) & permissions}
	switch e.kind {
	case file:
		e.size, err = strconv.ParseInt(fields[2], 10, 64)
		if err == nil {
			e.mtime, err = parseTime(fields[3])
		}
		if err != nil || e.size < 0 {
			return "", nil, fmt.Errorf("%w: %.100q", errListing, line)
		}
	case symlink:
		e.mode, e.target = 0, target
	}
	return line, e, nil
}

// parseTime reads find's %T@: seconds with a fraction of any length.
func parseTime(s string) (int64, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, err
	}
	nanos := int64(0)
	if fraction = (fraction + "000000000")[:9]; fraction != "000000000" {
		if nanos, err = strconv.ParseInt(fraction, 10, 64); err != nil {
			return 0, err
		}
	}
	if seconds < 0 {
		nanos = -nanos // "-1.500000000" is one and a half before
	}
	return seconds*int64(time.Second) + nanos, nil
}

// add takes an entry in, unless it is left out. A directory stands before what
// is in it.
func (g *guest) add(found tree, p string, e *entry) error {
	if len(found) >= maxEntries {
		return fmt.Errorf("%w: more than %d entries", errListing, maxEntries)
	}
	if d := parent(p); d != "" && (found[d] == nil || found[d].kind != dir) {
		return nil // its directory is left out
	}
	if g.skip.Match(p, e.kind == dir) {
		return nil
	}
	switch e.kind {
	case file, dir, symlink:
		found[p] = e
	}
	return nil
}

// walk lists the folder by SFTP alone: a round trip for each directory, many
// at once.
func (g *guest) walk(ctx context.Context, proposed string, prepare bool) (tree, error) {
	client, err := g.sftp()
	if err != nil {
		return nil, err
	}
	found := tree{}
	if err := g.identify(client, proposed, prepare); err != nil {
		return nil, err
	}
	if _, err := client.Stat(g.root); errors.Is(err, fs.ErrNotExist) && !prepare {
		return found, nil
	}
	// Level by level, so that every directory stands before what is in it.
	level := []string{""}
	for len(level) > 0 {
		var mu sync.Mutex
		var next []string
		work, ctx := errgroup.WithContext(ctx)
		work.SetLimit(paths)
		for _, d := range level {
			work.Go(func() error {
				infos, err := client.ReadDirContext(ctx, path.Join(g.root, d))
				if err != nil {
					mu.Lock()
					defer mu.Unlock()
					g.incomplete = fmt.Sprintf("%s: %v", path.Join(g.root, d), err)
					return ctx.Err()
				}
				for _, info := range infos {
					p := path.Join(d, info.Name())
					e, err := sftpEntry(client, g.path(p), info)
					if err != nil {
						return err
					}
					mu.Lock()
					if validPath(p) && parent(p) == d {
						err = g.add(found, p, e)
						if err == nil && found[p] == e && e.kind == dir {
							next = append(next, p)
						}
					}
					mu.Unlock()
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := work.Wait(); err != nil {
			return nil, err
		}
		level = next
	}
	return found, nil
}

func sftpEntry(client *sftp.Client, full string, info fs.FileInfo) (*entry, error) {
	e := &entry{mode: uint32(info.Mode().Perm())}
	switch info.Mode().Type() {
	case 0:
		e.kind, e.size, e.mtime = file, info.Size(), info.ModTime().UnixNano()
	case fs.ModeDir:
		e.kind = dir
	case fs.ModeSymlink:
		target, err := client.ReadLink(full)
		if err != nil {
			return nil, err
		}
		e.kind, e.mode, e.target = symlink, 0, target
	}
	return e, nil
}

// identify does what the beginning of listScript does.
func (g *guest) identify(client *sftp.Client, proposed string, prepare bool) error {
	g.id, g.made = "", true
	name := g.own("id")
	if f, err := client.Open(name); err == nil {
		data, err := io.ReadAll(io.LimitReader(f, 100))
		_ = f.Close() // it was only read
		if id := strings.TrimSpace(string(data)); err == nil && validID(id) {
			g.id, g.made = id, false
			if !prepare {
				return nil
			}
		}
	}
	if !prepare {
		return nil
	}
	if !g.made {
		return g.sweep(client)
	}
	if err := client.MkdirAll(g.path(guestDir)); err != nil {
		return g.folderError(err)
	}
	for file, text := range map[string]string{".gitignore": "*\n", "id": proposed + "\n"} {
		f, err := client.Create(g.own(file))
		if err == nil {
			_, err = f.Write([]byte(text))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return g.folderError(err)
		}
	}
	g.id = proposed
	return nil
}

// sweep removes what an earlier run left half done.
func (g *guest) sweep(client *sftp.Client) error {
	infos, err := client.ReadDir(g.path(guestDir))
	if err != nil {
		return err
	}
	for _, info := range infos {
		if strings.HasPrefix(info.Name(), "stage-") {
			if err := client.RemoveAll(g.own(info.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
