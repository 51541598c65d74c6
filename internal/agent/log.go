package agent

import (
	"os"
	"sync"
)

// maxLog bounds the agent's log, in bytes.
const maxLog = 1 << 20

// boundedLog writes to a file that was opened for appending, and begins it
// anew when it gets too long: the last words count.
type boundedLog struct {
	mu      sync.Mutex
	file    *os.File
	max     int64
	written int64
}

func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written+int64(len(p)) > l.max {
		l.begin()
	}
	n, err := l.file.Write(p)
	l.written += int64(n)
	return n, err
}

// begin empties the log. A terminal cannot be emptied, and need not be.
func (l *boundedLog) begin() {
	if info, err := l.file.Stat(); err == nil && info.Mode().IsRegular() {
		_ = l.file.Truncate(0) // a log that cannot be shortened is no reason to stop
	}
	l.written = 0
}
