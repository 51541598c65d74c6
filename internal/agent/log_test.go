package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The log never gets longer than it may, and ends with the last words.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.log")
	if err := os.WriteFile(path, []byte("an agent before this one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := &boundedLog{file: f, max: 1000}
	l.begin()
	for i := range 100 {
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
	}
}
