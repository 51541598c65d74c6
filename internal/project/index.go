package project

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Index lists the user's projects: one small file for each, so that commands
// in different projects never write the same one.
type Index struct {
	dir string
}

// NewIndex returns the index below stateHome. It creates nothing.
func NewIndex(stateHome string) *Index {
	return &Index{dir: filepath.Join(stateHome, indexDir, projectsDir)}
}

// Entry is one project of the index.
type Entry struct {
	ID      string    `json:"id"`
	Dir     string    `json:"dir"`
	Updated time.Time `json:"updated"` // when it was registered at Dir
	// Stale says why the entry leads nowhere ("the directory is gone"); ""
	// for one that is in order.
	Stale string `json:"-"`
}

// Add registers the project in dir, in place of one that was there before and
// whose state was lost. What is already so is not written again.
func (x *Index) Add(id, dir string) error {
	if e, err := x.get(id); err == nil && e.Dir == dir {
		return nil
	}
	data, err := json.Marshal(Entry{ID: id, Dir: dir, Updated: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return fmt.Errorf("project index: %w", err)
	}
	err = x.write(id, append(data, '\n'))
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody's last project went in between, and took the folder along.
		err = x.write(id, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("project index: %w", err)
	}
	entries, err := x.List()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Dir == dir && e.ID != id {
			if err := x.Remove(e.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *Index) write(id string, data []byte) error {
	if err := os.MkdirAll(x.dir, 0o700); err != nil {
		return err
	}
	return WriteFile(x.path(id), data)
}

// Remove forgets a project, and leaves no empty folder. An unknown one is not an
// error.
func (x *Index) Remove(id string) error {
	err := ignoreMissing(os.Remove(x.path(id)))
	if err == nil {
		err = sweepTemps(x.dir, "."+id+indexExt+"-*"+tempExt)
	}
	if err != nil {
		return fmt.Errorf("project index: %w", err)
	}
	// Neither goes as long as there is something in it.
	if os.Remove(x.dir) == nil {
		_ = os.Remove(filepath.Dir(x.dir))
	}
	return nil
}

// List returns all entries, by id. Stale ones are reported as such; a project
// that was moved shows up as stale until a command ran in its new place.
func (x *Index) List() ([]Entry, error) {
	files, err := os.ReadDir(x.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("project index: %w", err)
	}
	var entries []Entry
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), indexExt)
		if !ok || !validID.MatchString(id) {
			continue // a temporary file of a killed Add
		}
		e, err := x.get(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			e = Entry{ID: id, Stale: "the entry is damaged"}
		} else {
			e.Stale = stale(e)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Prune forgets the stale entries and returns them.
func (x *Index) Prune() ([]Entry, error) {
	entries, err := x.List()
	if err != nil {
		return nil, err
	}
	var pruned []Entry
	for _, e := range entries {
		if e.Stale == "" {
			continue
		}
		if err := x.Remove(e.ID); err != nil {
			return pruned, err
		}
		pruned = append(pruned, e)
	}
	return pruned, nil
}

func stale(e Entry) string {
	if _, err := os.Stat(e.Dir); err != nil {
		return "the directory is gone"
	}
	switch _, s, err := readState(e.Dir); {
	case errors.Is(err, fs.ErrNotExist):
		return "the directory has no machines any more"
	case err == nil && s.ID != e.ID:
		return "the directory holds another project"
	}
	// An unreadable state is a project in need of help, not a stale one.
	return ""
}

func (x *Index) path(id string) string { return filepath.Join(x.dir, id+indexExt) }

func (x *Index) get(id string) (Entry, error) {
	data, err := os.ReadFile(x.path(id))
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	if err := json.Unmarshal(data, &e); err != nil {
		return Entry{}, err
	}
	if e.ID != id || !filepath.IsAbs(e.Dir) {
		return Entry{}, fmt.Errorf("%s: not an entry of the index", x.path(id))
	}
	return e, nil
}
