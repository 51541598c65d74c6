package project_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
)

// A repository can bring links. What they lead to is the user's: it must
// neither be written to nor removed with the machines.
func TestLinksAreRefused(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("links need privileges on Windows")
	}
	for _, link := range []string{
		".hostctl",
		".hostctl/lock",
		".hostctl/lock.holder",
		".hostctl/state.json",
		".hostctl/machines",
		".hostctl/machines/core-01",
		".hostctl/machines/core-01/qemu.log",
	} {
		for _, target := range []string{"directory", "file", "nothing"} {
			t.Run(link+" to a "+target, func(t *testing.T) {
				t.Parallel()
				h, dir, precious := newHome(t), t.TempDir(), t.TempDir()
				for _, err := range []error{
					os.Mkdir(filepath.Join(precious, "directory"), 0o755),
					os.WriteFile(filepath.Join(precious, "directory", "letter"), []byte("dear"), 0o644),
					os.WriteFile(filepath.Join(precious, "file"), []byte("dear"), 0o644),
					os.MkdirAll(filepath.Dir(filepath.Join(dir, link)), 0o755),
					os.Symlink(filepath.Join(precious, target), filepath.Join(dir, link)),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
				before := contents(t, precious)

				p := h.open(dir)
				unlock, err := p.Lock(t.Context(), "hostctl up", nil)
				if err == nil {
					t.Errorf("locked; Destroy: %v", p.Destroy())
					if err := unlock(); err != nil {
						t.Error(err)
					}
				} else {
					want := `lock project "` + p.Dir() + `": ` + filepath.Join(p.Dir(), link) + " is a symbolic link"
					if err.Error() != want {
						t.Errorf("Lock() = %v\nwant %s", err, want)
					}
					if got, want := hint.Of(err), "hostctl makes no links there, and would change what this one leads to: remove it"; got != want {
						t.Errorf("hint %q, want %q", got, want)
					}
				}
				if after := contents(t, precious); after != before {
					t.Errorf("behind the link:\n%s\nbefore:\n%s", after, before)
				}
			})
		}
	}
}

// contents is every file below dir with its mode and text.
func contents(t *testing.T, dir string) string {
	t.Helper()
	all := ""
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		all += info.Mode().String() + " " + path
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all += ": " + string(text)
		}
		all += "\n"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
