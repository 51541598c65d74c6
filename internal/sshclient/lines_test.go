package sshclient

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a buffer for several goroutines.
type lines struct {
	mu      sync.Mutex
	text    string
	changed chan struct{}
}

func newLines() *lines { return &lines{changed: make(chan struct{})} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text += string(p)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text
}

// waitFor waits until the text has part in it.
func (l *lines) waitFor(t *testing.T, part string) {
	t.Helper()
	timeout := time.NewTimer(20 * time.Second)
	defer timeout.Stop()
	for {
		l.mu.Lock()
		text, changed := l.text, l.changed
		l.mu.Unlock()
		if strings.Contains(text, part) {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			t.Fatalf("waited for %q, got %q", part, text)
		}
	}
}
