package mirror

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/sshtest"
)

// What was changed in the guest is left there when the host deletes it, and
// told, whether everything is compared or, as in the agent, some paths are.
func TestDeletedOnHostAndChangedInGuest(t *testing.T) {
	t.Parallel()
	conn := dial(t, sshtest.Start(t))
	before := files{"f": "old", "g": "old", "l": "-> g", "d/e/f": "old", "d/e/g": "old", "m/f": "old"}
	for _, only := range [][]string{nil, {"f", "g", "l", "d", "m", "n"}} {
		t.Run(fmt.Sprint("only ", only), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, conn, false)
			g := &guest{conn: conn, root: b.cfg.Guest, skip: NewMatcher(nil)}
			defer g.connect(t.Context())()
			run := func(only []string) []string {
				t.Helper()
				r, err := once(t.Context(), g, b.cfg, only)
				if err != nil {
					t.Fatal(err)
				}
				var edited []string
				for _, p := range r.Skipped {
					if !errors.Is(p.Err, errGuestEdited) {
						t.Errorf("%s: %v", p.Path, p.Err)
					}
					edited = append(edited, p.Path)
				}
				slices.Sort(edited)
				return edited
			}
			write(t, b.cfg.Host, before)
			run(nil)
			if err := os.Remove(filepath.Join(b.cfg.Guest, "l")); err != nil {
				t.Fatal(err)
			}
			write(t, b.cfg.Guest, files{"f": "changed", "l": "-> f", "d/e/f": "changed", "m/f": "changed"})
			in := func(name string) string { return filepath.Join(b.cfg.Host, name) }
			if err := errors.Join(os.Remove(in("f")), os.Remove(in("g")), os.Remove(in("l")), os.RemoveAll(in("d")), os.Rename(in("m"), in("n"))); err != nil {
				t.Fatal(err)
			}
			want := []string{"d/e/f", "f", "l", "m/f"}
			if edited := run(only); !slices.Equal(edited, want) {
				t.Errorf("%q are said to be left, want %q", edited, want)
			}
			left := files{"f": "changed", "l": "-> f", "d/": "", "d/e/": "", "d/e/f": "changed", "m/": "", "m/f": "changed", "n/": "", "n/f": "old"}
			if diff := cmp.Diff(left, read(t, b.cfg.Guest)); diff != "" {
				t.Errorf("in the guest:\n%s", diff)
			}
			if only != nil { // who asks for all of it later is told, too
				if edited := run(nil); !slices.Equal(edited, want) {
					t.Errorf("later %q are said to be left", edited)
				}
			}
			if edited := run(nil); edited != nil {
				t.Errorf("%q are told again", edited)
			}
		})
	}
}
