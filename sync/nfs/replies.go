//go:build linux || darwin

package nfs

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// A guest that lost its connection asks again what it had asked. Most calls can
// be made twice; a REMOVE would say that there is no such file. So replies to
// calls that change names are kept for a while, by the call's own bytes, which
// hold its number and the guest's name.
const (
	maxReplies = 1024
	keepReply  = 3 * time.Minute
)

type replies struct {
	seed maphash.Seed
	mu   sync.Mutex
	by   map[uint64]*reply
	old  []*reply // by age
}

type reply struct {
	key  uint64
	at   time.Time
	done chan struct{}
	b    []byte
}

func newReplies() *replies { return &replies{seed: maphash.MakeSeed(), by: map[uint64]*reply{}} }

// once makes the call unless it was made before. msg is the whole call.
func (k *replies) once(r *request, msg []byte) {
	if r.prog != progNFS || !r.changesNames() {
		r.run()
		return
	}
	key := maphash.Bytes(k.seed, msg)
	k.mu.Lock()
	if p := k.by[key]; p != nil {
		k.mu.Unlock()
		<-p.done
		r.w.b = append(r.w.b[:0], p.b...)
		return
	}
	p := &reply{key: key, at: time.Now(), done: make(chan struct{})}
	k.by[key] = p
	k.old = append(k.old, p)
	if len(k.old) > maxReplies {
		delete(k.by, k.old[0].key)
		k.old = k.old[1:]
	}
	k.mu.Unlock()
	r.run()
	p.b = slices.Clone(r.w.b)
	close(p.done)
}

func (k *replies) sweep(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for n < len(k.old) && now.Sub(k.old[n].at) > keepReply {
		delete(k.by, k.old[n].key)
		n++
	}
	k.old = k.old[n:]
}
