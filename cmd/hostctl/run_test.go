package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// An interrupted command says so, and nothing of what it was doing.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "machine.hcl"), []byte(`machine "core" { image = "dockerhost" }`), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"hostctl", "-C", dir, "up"}, streams{strings.NewReader(""), &stdout, &stderr}, nil)
	if code != exitInterrupted || stdout.Len() != 0 || stderr.String() != "error: interrupted\n" {
		t.Errorf("run() = %d, printed %q and %q", code, &stdout, &stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, ".hostctl")); err == nil {
		t.Error("the state directory was made")
	}
}

// Every command's help has examples and the exit status, and short texts that
// fit a terminal of 80 columns beside the names.
func TestHelp(t *testing.T) {
	t.Parallel()
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		words := strings.Fields(cmd.CommandPath())
		t.Run(strings.Join(words, " "), func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), append(words, "--help"), streams{strings.NewReader(""), &stdout, &stderr}, nil); code != exitDone {
				t.Fatalf("exit code %d: %s", code, &stderr)
			}
			for _, want := range []string{"Examples:\n  ", "Exit status:\n  0    done\n  1    failure\n  2 "} {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("no %q in\n%s", want, &stdout)
				}
			}
			if cmd.HasParent() && len("  global-status ")+len(cmd.Short) > 80 {
				t.Errorf("%d columns: %s", len("  global-status ")+len(cmd.Short), cmd.Short)
			}
		})
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				visit(c)
			}
		}
	}
	visit(newRootCmd(newApp([]string{"hostctl"}, streams{}, nil)))
}
