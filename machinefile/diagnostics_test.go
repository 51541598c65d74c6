package machinefile

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
)

func TestWriteDiagnostics(t *testing.T) {
	t.Parallel()
	_, src, diags := load("machine.hcl", []byte("machine \"core\" {\n  image = \"dockerhost\"\n  cpus  = 0 + index\n}\n"), Options{Catalog: testCatalog})
	tests := []struct {
		name  string
		src   *Source
		width int
		color bool
		want  string
	}{
		{"plain", src, 0, false, `Error: Value out of range

  on machine.hcl line 3, in machine "core":
   3:   cpus  = 0 + index
                ^^^^^^^^^

with index = 0.

cpus must be a whole number from 1 to 255, not 0.

`},
		{"wrapped", src, 30, false, `Error: Value out of range

  on machine.hcl line 3, in machine "core":
   3:   cpus  = 0 + index
                ^^^^^^^^^

with index = 0.

cpus must be a whole number
from 1 to 255, not 0.

`},
		{"colour", src, 0, true, "\x1b[31mError\x1b[0m: Value out of range\n\n" +
			"  on machine.hcl line 3, in machine \"core\":\n" +
			"   3:   cpus  = 0 + index\n" +
			"                \x1b[31m^^^^^^^^^\x1b[0m\n\n" +
			"with index = 0.\n\ncpus must be a whole number from 1 to 255, not 0.\n\n"},
		{"without source", nil, 0, false, `Error: Value out of range

  on machine.hcl line 3:

with index = 0.

cpus must be a whole number from 1 to 255, not 0.

`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got strings.Builder
			if err := WriteDiagnostics(&got, tt.src, diags, tt.width, tt.color); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A machine file from somewhere else must not steer the terminal.
func TestWriteDiagnosticsWithoutEscapes(t *testing.T) {
	t.Parallel()
	_, src, diags := load("machine.hcl", []byte("machine \"core\" {\n  image = \"\x1b]0;x\x07\"\n  \u009b = 1\n}\n"), Options{})
	var got strings.Builder
	if err := WriteDiagnostics(&got, src, diags, 0, false); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(got.String(), "\x1b\x07\u009b") {
		t.Errorf("got %q", got.String())
	}
}

func TestWriteWarning(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	err := WriteDiagnostics(&got, nil, hcl.Diagnostics{{Severity: hcl.DiagWarning, Summary: "Old", Detail: "Use the new one."}}, 0, false)
	if want := "Warning: Old\n\nUse the new one.\n\n"; err != nil || got.String() != want {
		t.Errorf("got %q, %v; want %q", got.String(), err, want)
	}
}

type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestWriteDiagnosticsFails(t *testing.T) {
	t.Parallel()
	if err := WriteDiagnostics(brokenWriter{}, nil, nil, 0, false); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want %v", err, errBroken)
	}
}
