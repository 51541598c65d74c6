package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// folderPatience is how long a folder of this host may take to be looked at.
const folderPatience = time.Second

// folders looks at folders of this host. One on a network disk whose server is
// gone may never answer: it is waited for once, not by all who ask.
type folders struct {
	stat     func(string) (fs.FileInfo, error)
	patience time.Duration

	mu    sync.Mutex
	looks map[string]look // those under way
}

// look is under way until what is wrong with the folder is in answer.
type look struct {
	late   time.Time // when it counts as unanswered
	done   chan struct{}
	answer *error
}

func newFolders() *folders {
	return &folders{stat: openable, patience: folderPatience, looks: map[string]look{}}
}

// openable is os.Stat that opens a directory as well: a network file system may
// know from before what is there, and hang only then.
func openable(dir string) (fs.FileInfo, error) {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return info, err
	}
	if d, err := os.Open(dir); err == nil {
		d.Close()
	}
	return info, nil
}

// errHangs says that a folder does not answer.
var errHangs = errors.New("does not answer")

// missing says why a folder cannot be served; nil when it can.
func (f *folders) missing(dir string) error {
	l := f.look(dir)
	timer := time.NewTimer(time.Until(l.late))
	defer timer.Stop()
	select {
	case <-l.done:
		return *l.answer
	case <-timer.C:
		return fmt.Errorf("%s %w", dir, errHangs)
	}
}

// look returns the look at dir that is under way, or begins one.
func (f *folders) look(dir string) look {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, ok := f.looks[dir]
	if ok {
		return l
	}
	l = look{late: time.Now().Add(f.patience), done: make(chan struct{}), answer: new(error)}
	f.looks[dir] = l
	go func() {
		info, err := f.stat(dir)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is not a folder", dir)
		}
		*l.answer = err
		f.mu.Lock()
		delete(f.looks, dir)
		f.mu.Unlock()
		close(l.done)
	}()
	return l
}
