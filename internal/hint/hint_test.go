package hint_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
)

// silent could give advice and has none.
type silent struct{ error }

func (silent) Hint() string    { return "" }
func (s silent) Unwrap() error { return s.error }

func TestOf(t *testing.T) {
	t.Parallel()
	fact := errors.New("it broke")
	mended := hint.Wrap(fact, "mend %s", "it")
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"nil":               {nil, ""},
		"none":              {fact, ""},
		"wrapped":           {fmt.Errorf("core-01: %w", mended), "mend it"},
		"outermost":         {hint.Wrap(fmt.Errorf("core-01: %w", mended), "start afresh"), "start afresh"},
		"joined":            {errors.Join(fact, mended), "mend it"},
		"beneath a silent":  {silent{mended}, "mend it"},
		"nothing but quiet": {silent{fact}, ""},
	} {
		if got := hint.Of(c.err); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Advice is for another line: the error says and is what it was.
func TestWrap(t *testing.T) {
	t.Parallel()
	fact := errors.New("it broke")
	if got := hint.Wrap(fact, "mend it"); got.Error() != "it broke" || !errors.Is(got, fact) {
		t.Errorf("%v is not the error it wraps", got)
	}
	if got := hint.Wrap(nil, "mend it"); got != nil {
		t.Errorf("Wrap(nil) = %v", got)
	}
}
