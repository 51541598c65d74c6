package wait_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
)

var errNotYet = errors.New("not yet")

func TestUntilTheConditionHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start, attempts := time.Now(), 0
		err := wait.Until(t.Context(), time.Second, func(context.Context) error {
			if attempts++; attempts < 4 {
				return errNotYet
			}
			return nil
		})
		if err != nil || attempts != 4 || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %d attempts and %s; want nil after 4 and 3s", err, attempts, time.Since(start))
		}
	})
}

// The last attempt's error tells more than that time ran out; an attempt that
// was cut off by the deadline tells less than the one before.
func TestUntilTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		attempts := 0
		err := wait.Until(ctx, time.Second, func(ctx context.Context) error {
			if attempts++; attempts == 1 {
				return errNotYet
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, wait.ErrTimeout) || !errors.Is(err, errNotYet) {
			t.Errorf("%v is not both a timeout and the last error", err)
		}
		if want := "timed out after 1m30s: not yet"; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	})
}

func TestUntilCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the user has had enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(cause) })
		err := wait.Until(ctx, time.Hour, func(context.Context) error { return errNotYet })
		if !errors.Is(err, cause) || errors.Is(err, wait.ErrTimeout) {
			t.Errorf("%v, want the context's cause alone", err)
		}
	})
}

func TestUntilPermanent(t *testing.T) {
	t.Parallel()
	attempts := 0
	err := wait.Until(t.Context(), time.Hour, func(context.Context) error {
		attempts++
		return wait.Permanent(errNotYet)
	})
	if err != errNotYet || attempts != 1 { //nolint:errorlint // the very error, without its mark
		t.Errorf("%v after %d attempts; want the error itself after one", err, attempts)
	}
}
