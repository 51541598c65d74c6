package mirror

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/durable"
	"github.com/hostctl/hostctl/internal/hint"
)

// base is what was mirrored when the two sides were last alike. What one side
// has lost since then was deleted there; without a base it may as well be new
// on the other.
type base struct {
	guest string // identity of the guest's copy: another one makes the base worthless
	root  string // identity of the host's folder: likewise
	pairs map[string]*pair
}

// The file is a line "hostctl mirror 1 GUEST ROOT", and for each entry
// "KIND SIZE HMODE HMTIME HCTIME GMODE GMTIME PATH\0TARGET\0".
const baseVersion = "hostctl mirror 1"

var errBase = errors.New("not a record of what was mirrored")

// loadBase reads a base; a missing one is empty.
func loadBase(path string) (*base, error) {
	b := &base{pairs: map[string]*pair{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err == nil {
		err = b.parse(data)
	}
	if errors.Is(err, errBase) {
		return nil, hint.Wrap(fmt.Errorf("%s: %w", path, err), "delete it: both sides are compared anew then, and nothing is deleted")
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (b *base) parse(data []byte) error {
	line, rest, _ := strings.Cut(string(data), "\n")
	head, ok := strings.CutPrefix(line, baseVersion+" ")
	if !ok {
		return errBase
	}
	b.guest, b.root, _ = strings.Cut(head, " ")
	for rest != "" {
		var fields [6]int64
		var record, target string
		record, rest, ok = strings.Cut(rest, "\x00")
		if ok {
			target, rest, ok = strings.Cut(rest, "\x00")
		}
		if !ok || len(record) < 2 {
			return errBase
		}
		k := kind(record[0])
		record = record[2:]
		for i := range 6 {
			var field string
			var err error
			field, record, _ = strings.Cut(record, " ")
			if fields[i], err = strconv.ParseInt(field, 10, 64); err != nil {
				return errBase
			}
		}
		if !validPath(record) {
			return errBase
		}
		b.pairs[record] = &pair{
			host:  entry{kind: k, size: fields[0], mode: uint32(fields[1]), mtime: fields[2], ctime: fields[3], target: target},
			guest: entry{kind: k, size: fields[0], mode: uint32(fields[4]), mtime: fields[5], target: target},
		}
	}
	return nil
}

// save replaces the file, so that a killed hostctl leaves the old or the new.
func (b *base) save(path string) error {
	var buf bytes.Buffer
	if err := b.write(&buf); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(buf.Bytes())
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return durable.Replace(f.Name(), path)
}

func (b *base) write(to io.Writer) error {
	w := bufio.NewWriter(to)
	fmt.Fprintf(w, "%s %s %s\n", baseVersion, b.guest, b.root)
	var line []byte
	for _, p := range slices.Sorted(maps.Keys(b.pairs)) {
		h, g := &b.pairs[p].host, &b.pairs[p].guest
		line = append(line[:0], byte(h.kind))
		for _, n := range [...]int64{h.size, int64(h.mode), h.mtime, h.ctime, int64(g.mode), g.mtime} {
			line = strconv.AppendInt(append(line, ' '), n, 10)
		}
		line = append(append(line, ' '), p...)
		line = append(append(append(line, 0), h.target...), 0)
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return w.Flush()
}
