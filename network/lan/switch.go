package lan

import (
	"net"
	"sync"
)

// mac is an Ethernet address.
type mac [6]byte

func (m mac) String() string { return net.HardwareAddr(m[:]).String() }

// group reports whether the address is that of several cards: a broadcast or a
// multicast.
func (m mac) group() bool { return m[0]&1 != 0 }

func asMAC(a net.HardwareAddr) (mac, bool) {
	if len(a) != len(mac{}) {
		return mac{}, false
	}
	return mac(a), !mac(a).group()
}

// maxLearned bounds how many addresses are remembered beside the cards' own;
// frames to others go to everybody. Guests can invent addresses.
const maxLearned = 1024

// outlet is where a switch sends packets: a guest or the gateway. send must
// not wait, and must not change the packet.
type outlet interface{ send(packet []byte) }

// ethernetSwitch carries frames between outlets. gvisor-tap-vsock's own loses
// multicasts (IPv6, mDNS), waits for guests that do not read, and ends the
// process at a frame without a header.
type ethernetSwitch struct {
	mu      sync.RWMutex
	outlets map[outlet]mac
	// own are the addresses that outlets joined with, and which no other takes
	// from them; learned are those they send from besides.
	own, learned map[mac]outlet
}

func newSwitch() *ethernetSwitch {
	return &ethernetSwitch{outlets: map[outlet]mac{}, own: map[mac]outlet{}, learned: map[mac]outlet{}}
}

func (s *ethernetSwitch) join(m mac, o outlet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outlets[o] = m
	s.own[m] = o
	delete(s.learned, m)
}

func (s *ethernetSwitch) leave(o outlet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.outlets[o]; s.own[m] == o {
		delete(s.own, m)
	}
	delete(s.outlets, o)
	for m, at := range s.learned {
		if at == o {
			delete(s.learned, m)
		}
	}
}

func (s *ethernetSwitch) joined(m mac) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.own[m] != nil
}

// forward sends a packet that came from an outlet on to those it is for.
func (s *ethernetSwitch) forward(from outlet, packet []byte) {
	frame := packet[lengthSize:]
	to, source := mac(frame[:6]), mac(frame[6:12])
	s.mu.RLock()
	if s.mustLearn(source, from) {
		s.mu.RUnlock()
		s.learn(source, from)
		s.mu.RLock()
	}
	at := s.own[to]
	if at == nil {
		at = s.learned[to]
	}
	var all []outlet
	if at == nil {
		for o := range s.outlets {
			if o != from {
				all = append(all, o)
			}
		}
	}
	s.mu.RUnlock()
	switch {
	case at == nil: // a group's, or nobody's that is known
		for _, o := range all {
			o.send(packet)
		}
	case at != from:
		at.send(packet)
	}
}

func (s *ethernetSwitch) mustLearn(source mac, from outlet) bool {
	return !source.group() && s.own[source] == nil && s.learned[source] != from
}

func (s *ethernetSwitch) learn(source mac, from outlet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, still := s.outlets[from]
	_, known := s.learned[source]
	if still && s.mustLearn(source, from) && (known || len(s.learned) < maxLearned) {
		s.learned[source] = from
	}
}
