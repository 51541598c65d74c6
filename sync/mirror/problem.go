package mirror

import (
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/internal/hint"
)

// Problem is a path that is not mirrored, and why.
type Problem struct {
	Path string
	Err  error
}

// PartialError means that all but some paths were mirrored. The next run tries
// them again.
type PartialError struct{ Problems []Problem }

func (e *PartialError) Error() string {
	first := e.Problems[0]
	if n := len(e.Problems); n > 1 {
		return fmt.Sprintf("%d paths were not mirrored: %s: %v, and others", n, first.Path, first.Err)
	}
	return fmt.Sprintf("%s was not mirrored: %v", first.Path, first.Err)
}

// Unwrap gives the causes.
func (e *PartialError) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p.Err
	}
	return errs
}

// Hint gives the first problem's advice.
func (e *PartialError) Hint() string {
	for _, p := range e.Problems {
		if h := hint.Of(p.Err); h != "" {
			return h
		}
	}
	return ""
}

// ErrBusy means that another hostctl mirrors this share right now.
var ErrBusy = errors.New("this share is being mirrored already")

var (
	errGuestEdited  = errors.New("deleted on the host, and left in the guest: it was changed there")
	errNotEmpty     = errors.New("the directory is not empty")
	errMounted      = errors.New("another file system is mounted there in the guest")
	errReadOnlyHere = errors.New("this computer's file system is mounted read-only")
	errMountedHere  = errors.New("another file system is mounted there on this computer")
	errLeadsOutside = errors.New("a link of the guest that would lead out of the share on the host")
)
