package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The log never gets longer than it may, keeps what was said before, and ends
// with the last words.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.log")
	if err := os.WriteFile(path, []byte("an agent before this one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := newLog(f, 1000)
	all := []byte("an agent before this one\n")
	for i := range 100 {
		former := all
		line := append(bytes.Repeat([]byte{'a' + byte(i%26)}, i), '\n')
		if n, err := l.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 1000 || !bytes.HasSuffix(data, line) {
			t.Fatalf("after line %d the log has %d bytes, which end with %q", i, len(data), data[max(0, len(data)-10):])
		}
		// Whole lines of before, and not less than fits into the half.
		all = data
		kept := data[:len(data)-len(line)]
		if !bytes.HasSuffix(former, kept) || len(kept) < min(len(former), 500-100) {
			t.Fatalf("after line %d, %q is left of %q", i, kept, former)
		}
		if n := len(former) - len(kept); n > 0 && former[n-1] != '\n' {
			t.Fatalf("after line %d the log begins within a line: %q", i, kept)
		}
	}
}
