// Package wait polls for conditions. It is the only place that sleeps.
package wait

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrTimeout is returned when the deadline passed before the condition held.
var ErrTimeout = errors.New("timed out")

// Error is a wait that ran out of time. It carries the last attempt's error.
type Error struct {
	After time.Duration
	Last  error
}

func (e *Error) Error() string {
	if e.Last == nil {
		return fmt.Sprintf("timed out after %s", e.After.Round(time.Second))
	}
	return fmt.Sprintf("timed out after %s: %v", e.After.Round(time.Second), e.Last)
}
func (e *Error) Unwrap() []error { return []error{ErrTimeout, e.Last} }

type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error that further attempts cannot mend: [Until] returns
// it at once.
func Permanent(err error) error { return permanent{err} }

// Until calls attempt until it returns nil, pausing interval between calls.
// When ctx ends by its deadline it returns an *[Error] with the last attempt's
// error; when ctx is cancelled, the context's cause. The context that attempt
// gets is ctx itself.
func Until(ctx context.Context, interval time.Duration, attempt func(context.Context) error) error {
	start := time.Now()
	timer := time.NewTimer(interval)
	defer timer.Stop()
	var last error
	for {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		var p permanent
		if errors.As(err, &p) {
			return p.error
		}
		// An attempt that was cut off by the deadline says less than the one
		// before it.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		timer.Reset(interval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return &Error{After: time.Since(start), Last: last}
			}
			return context.Cause(ctx)
		}
	}
}
