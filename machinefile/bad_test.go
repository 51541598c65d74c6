package machinefile

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/golden"
)

var testCatalog = []CatalogImage{
	{Name: "dockerhost"},
	{Name: "flatcar", Channels: []string{"stable", "beta", "alpha", "lts"}},
	{Name: "fedora-coreos", Streams: []string{"stable", "testing", "next"}},
}

// Each testdata/bad/NAME.hcl has the diagnostics of NAME.golden. Comments at
// its top give variables: "# -var x=1" and "# HOSTCTL_VAR_x=1".
func TestBadFiles(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/bad/*.hcl")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".hcl")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, src, diags := Load(path, optionsIn(t, path))
			if !diags.HasErrors() || config != nil {
				t.Fatalf("no error, or a config in spite of it: %v, %v", diags, config)
			}
			for _, d := range diags {
				if d.Subject == nil {
					t.Errorf("no subject: %v", d)
				}
			}
			var text strings.Builder
			if err := WriteDiagnostics(&text, src, diags, 78, false); err != nil {
				t.Fatal(err)
			}
			golden.Equal(t, "bad/"+name+".golden", filepath.ToSlash(text.String()))
		})
	}
}

func optionsIn(t *testing.T, path string) Options {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	o := Options{Catalog: testCatalog}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line, ok := strings.CutPrefix(lines.Text(), "# ")
		if !ok {
			break
		}
		if pair, ok := strings.CutPrefix(line, "-var "); ok {
			o.Vars = append(o.Vars, pair)
		} else {
			o.Environ = append(o.Environ, line)
		}
	}
	return o
}
