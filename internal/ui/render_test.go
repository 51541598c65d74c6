package ui_test

import (
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/ui"
)

// On a terminal a guest's words are words only, however they arrive; in a file
// they are what the guest wrote.
func TestForeign(t *testing.T) {
	t.Parallel()
	const said = "\x1bM\r\x1b[K[ \x1b[0;32m OK \x1b[0m] Started \x1b]0;title\x07docker\r\r\nlogin: "
	for name, c := range map[string]struct {
		terminal bool
		want     string
	}{
		"terminal": {true, "\n[  OK ] Started docker\nlogin: "},
		"file":     {false, said},
	} {
		var out strings.Builder
		u := ui.New(ui.Options{
			Stdout:   &out,
			Terminal: func(any) (int, int, bool) { return 80, 24, c.terminal },
		})
		w := u.Foreign(&out)
		for _, b := range []byte(said) {
			if _, err := w.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if out.String() != c.want {
			t.Errorf("%s: %q, want %q", name, out.String(), c.want)
		}
	}
}
