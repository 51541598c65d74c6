package agent

import (
	"bytes"
	"io"
	"os"
	"sync"
)

// maxLog bounds the agent's log, in bytes.
const maxLog = 1 << 20

// boundedLog writes to a file that was opened for reading and appending. When
// that gets too long the older half of it goes. What agents before this one have
// said stays: the last words of one that died are what is looked for.
type boundedLog struct {
	max int64

	mu   sync.Mutex
	file *os.File
	size int64 // of the file; that of a terminal does not count
}

func newLog(file *os.File, limit int64) *boundedLog {
	l := &boundedLog{file: file, max: limit}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		l.size = info.Size()
	}
	return l
}

func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > l.max {
		l.shorten()
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

// shorten keeps the last lines, up to half of what may be. A log that cannot be
// shortened is no reason to stop.
func (l *boundedLog) shorten() {
	var kept []byte
	half := l.max / 2
	if l.size > half {
		kept = make([]byte, half)
		n, err := l.file.ReadAt(kept, l.size-half)
		if err != nil && err != io.EOF {
			n = 0
		}
		kept = kept[:n]
		kept = kept[bytes.IndexByte(kept, '\n')+1:] // the rest of a line says nothing
	}
	l.size = 0
	if l.file.Truncate(0) == nil {
		n, _ := l.file.Write(kept)
		l.size = int64(n)
	}
}
