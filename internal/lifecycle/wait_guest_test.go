package lifecycle_test

import (
	"testing"

	"github.com/hostctl/hostctl/internal/lifecycle"
)

// What a guest printed last is something to read.
func TestLastWords(t *testing.T) {
	t.Parallel()
	for log, want := range map[string]string{
		"":                       "",
		"one\ntwo":               "two",
		"one\n\x1b[K\x1b[0m\n  ": "one",
		"\x1b[0;32m  OK  \x1b[0m] Started\n\x1bM\x1b[K": "OK  ] Started",
		"\x1b[2J\x1b[?25h": "",
		"a\x00b":           "ab",
	} {
		if got := lifecycle.LastWords(log); got != want {
			t.Errorf("of %q: %q, want %q", log, got, want)
		}
	}
}
