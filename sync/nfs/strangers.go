//go:build linux || darwin

package nfs

import (
	"slices"
	"sync"
)

// maxStrangers leaves half of the connections to guests. Every user of the host can
// connect.
const maxStrangers = maxConns / 2

// strangers are connections that were of strangers when they were last looked at.
// The zero value has none.
type strangers struct {
	mu    sync.Mutex
	conns []*conn // the oldest first
}

// of adds a connection until done is called. Of one too many the oldest is shut: a
// guest shows at once that it is one.
func (s *strangers) of(c *conn) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, func(o *conn) bool { return o.known.Load() })
	if len(s.conns) == maxStrangers {
		s.conns[0].sock.shut()
		s.conns = slices.Delete(s.conns, 0, 1)
	}
	s.conns = append(s.conns, c)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conns = slices.DeleteFunc(s.conns, func(o *conn) bool { return o == c })
	}
}
