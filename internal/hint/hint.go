// Package hint attaches advice to errors: the error says what happened, the
// hint says what to do next. The edge prints them on separate lines.
package hint

import (
	"errors"
	"fmt"
)

// Hinter is implemented by errors that know what the user can do.
type Hinter interface {
	error
	Hint() string
}

type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }
func (h *hinted) Hint() string  { return h.hint }

// Wrap adds advice to err. A nil err stays nil.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// Of returns the outermost non-empty hint in err's chain, or "".
func Of(err error) string {
	for err != nil {
		var h Hinter
		if !errors.As(err, &h) {
			return ""
		}
		if s := h.Hint(); s != "" {
			return s
		}
		err = errors.Unwrap(h)
	}
	return ""
}
