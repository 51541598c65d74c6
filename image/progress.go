package image

import (
	"context"
	"io"
	"time"
)

// Progress says how far an image is on its way into the cache.
type Progress struct {
	// Phase is "resolving", "waiting" (for another process that gets the
	// same image), "downloading", "verifying" or "decompressing".
	Phase string
	Done  int64 // bytes
	Total int64 // bytes; 0 when unknown
}

// reportInterval is short enough for a smooth display.
const reportInterval = 100 * time.Millisecond

// meter counts bytes and reports them now and then.
type meter struct {
	report func(Progress)
	now    Progress
	last   time.Time
}

func newMeter(report func(Progress), phase string, total int64) *meter {
	m := &meter{report: report, now: Progress{Phase: phase, Total: total}}
	m.flush()
	return m
}

func (m *meter) add(n int64) {
	m.now.Done += n
	if n > 0 && (time.Since(m.last) >= reportInterval || m.now.Done == m.now.Total) {
		m.flush()
	}
}

func (m *meter) flush() {
	m.last = time.Now()
	if m.report != nil {
		m.report(m.now)
	}
}

// reader counts what is read from r and ends when ctx does.
func (m *meter) reader(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := r.Read(p)
		m.add(int64(n))
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
