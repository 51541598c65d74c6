package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/events"
	"github.com/hostctl/hostctl/sync/nfs"
	"github.com/hostctl/hostctl/sync/watch"
)

// Ports that shares are served on lie below those that systems give to
// connections of their own (Linux: from 32768, others: from 49152): the port
// must be free again when the agent is.
const (
	firstSharePort = 20000
	sharePorts     = 10000
	portAttempts   = 100
)

// folderPatience is how long a folder of this host may take to be looked at: whoever
// asks for status waits for it, and gives the agent two seconds.
const folderPatience = time.Second

// serves reports whether the machine has shares of the agent's server, or had.
func serves(p provider.Provider, ms project.MachineState) bool {
	_, reached := provider.As[provider.HostAddresser](p)
	return reached && ms.AsksServer()
}

// shares is the project's NFS server. It serves the shares of the machines that
// run, on the addresses where their guests reach this host.
type shares struct {
	project *project.Project
	known   func() []string // the names of all exports that the state has
	log     *slog.Logger
	folders folder.Looks
	replays *nfs.Replays // of its server
	events  *events.Hub

	following sync.Mutex // held while what is served changes
	server    *nfs.Server
	exports   []nfs.Export    // of the server
	served    []chan struct{} // closed when the server has ended on a listener
	ended     bool

	// mu is for what status shows. It is changed only while following is held,
	// too, and nothing waits while mu is.
	mu        sync.Mutex
	wants     map[string]want  // by machine
	refused   map[string]error // why exports are not served, by name
	listeners map[netip.Addr]*listener
}

// want is what one machine's guest is to be served. It may be nothing: a guest
// that had shares is to be told that they are gone, or its programs would wait
// for the server for ever.
type want struct {
	listen netip.Addr // invalid: the machine does not need the server
	shares []project.ShareSpec
	stay   []project.ShareSpec // those of the machine file; the guest gives up the others
	owner  uint32              // the guest's user, to whom this host's files belong
}

// leaves reports whether the share is one that the guest is to give up.
func (w want) leaves(s project.ShareSpec) bool {
	return !slices.ContainsFunc(w.stay, func(t project.ShareSpec) bool { return t.Export(w.owner) == s.Export(w.owner) })
}

func (w want) export(s project.ShareSpec) nfs.Export {
	return nfs.Export{Name: s.Export(w.owner), Dir: s.Host, ReadOnly: s.ReadOnly, UID: w.owner, GID: w.owner}
}

// listener is an address that the server answers on.
type listener struct {
	port uint16
	stop func() // frees the port, and waits for nothing
}

func newShares(p *project.Project, known func() []string, log *slog.Logger) *shares {
	replays := nfs.NewReplays()
	return &shares{
		project: p, known: known, log: log, folders: folder.Looks{Patience: folderPatience}, replays: replays, events: events.New(replays, log),
		wants: map[string]want{}, listeners: map[netip.Addr]*listener{},
	}
}

// set serves a machine's guest exactly this. It says what of that cannot be: the
// rest is served all the same. That what the guest is to give up has gone already
// is no reason to keep it from that.
func (s *shares) set(machine string, w want) error {
	s.following.Lock()
	defer s.following.Unlock()
	if s.ended {
		return nil
	}
	s.mu.Lock()
	if w.listen.IsValid() {
		s.wants[machine] = w
	} else {
		delete(s.wants, machine)
	}
	s.mu.Unlock()
	if err := s.follow(); err != nil {
		return err
	}
	for _, share := range w.shares {
		if err := s.refused[w.export(share).Name]; err != nil && !w.leaves(share) {
			return fmt.Errorf("share %q: %w", share.Name, err)
		}
	}
	return nil
}

// follow has the server serve what is wanted. following is held.
func (s *shares) follow() error {
	exports, addrs := s.wanted()
	s.leave(addrs)
	if len(addrs) == 0 {
		return s.close()
	}
	if s.server == nil {
		server, err := s.open()
		if err != nil {
			return err
		}
		s.server = server
	}
	if err := s.export(exports); err != nil {
		return err
	}
	var errs []error
	for _, addr := range addrs {
		if s.listeners[addr] != nil {
			continue
		}
		l, err := s.listen(addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("serve shares on %s: %w", addr, err))
			continue
		}
		s.mu.Lock()
		s.listeners[addr] = l
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

// wanted are the exports and addresses that machines need. following is held.
func (s *shares) wanted() (exports []nfs.Export, addrs []netip.Addr) {
	for _, w := range s.wants {
		if !slices.Contains(addrs, w.listen) {
			addrs = append(addrs, w.listen)
		}
		for _, share := range w.shares {
			if e := w.export(share); !slices.Contains(exports, e) {
				exports = append(exports, e)
			}
		}
	}
	return exports, addrs
}

// export has the server serve these. One that cannot be opened keeps no other
// from it, and one that went away while it was served stays: the server knows how
// to wait for it. following is held.
func (s *shares) export(wanted []nfs.Export) error {
	now := slices.DeleteFunc(slices.Clone(s.exports), func(e nfs.Export) bool { return !slices.Contains(wanted, e) })
	s.await(now, s.refused) // before the first guest is answered
	if len(now) < len(s.exports) {
		if err := s.server.Export(now); err != nil {
			return err
		}
	}
	refused := map[string]error{}
	for _, e := range wanted {
		s.folders.Begin(e.Dir) // all at once: each may hang
	}
	for _, e := range wanted {
		if slices.Contains(now, e) {
			continue
		}
		err := s.missing(e.Dir)
		if err == nil {
			err = s.server.Export(append(now, e))
		}
		if err != nil {
			refused[e.Name] = err
			continue
		}
		now = append(now, e)
	}
	s.exports = now
	s.await(now, refused)
	s.mu.Lock()
	s.refused = refused
	s.mu.Unlock()
	return nil
}

// missing says why a folder cannot be served; nil when it can.
func (s *shares) missing(dir string) error {
	return s.folders.At(context.Background(), dir) // which takes no longer than folderPatience
}

// await has guests wait for what they are still to have, and is not served: another
// machine's worker has not come to it, or its folder hangs. Of a folder that is gone
// they are told.
func (s *shares) await(served []nfs.Export, refused map[string]error) {
	s.server.Await(slices.DeleteFunc(s.known(), func(name string) bool {
		err := refused[name]
		return err != nil && !errors.Is(err, folder.ErrSilent) ||
			slices.ContainsFunc(served, func(e nfs.Export) bool { return e.Name == name })
	}))
}

func (s *shares) open() (*nfs.Server, error) {
	key, err := s.project.ShareKey()
	if err != nil {
		return nil, err
	}
	return nfs.NewServer(nfs.Config{Key: key, State: s.project.SharesDir(), Logger: s.log, Replays: s.replays})
}

// leave stops listening on other addresses than these. following is held.
func (s *shares) leave(addrs []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for addr, l := range s.listeners {
		if !slices.Contains(addrs, addr) {
			l.stop()
			delete(s.listeners, addr)
		}
	}
}

// listen has the server answer on the address, on the port that it had there
// before. Where somebody else has that now, guests have to mount anew.
func (s *shares) listen(addr netip.Addr) (*listener, error) {
	ports, err := s.project.SharePorts()
	if err != nil {
		s.log.Warn("the ports of shares are forgotten", "error", err)
		ports = map[netip.Addr]uint16{}
	}
	first := ports[addr]
	if first == 0 {
		first = firstSharePort + uint16(crc32.ChecksumIEEE([]byte(s.project.ID()))%sharePorts)
	}
	var l net.Listener
	port, l, err := bindFrom(addr, first)
	if err != nil {
		return nil, err
	}
	if ports[addr] != port {
		ports[addr] = port
		if err := s.project.KeepSharePorts(ports); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	server := s.server
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	s.served = append(s.served, ended)
	go func() {
		defer close(ended)
		if err := server.Serve(ctx, l); err != nil {
			s.log.Warn("no longer serves shares", "address", l.Addr(), "error", err)
		}
	}()
	s.log.Info("serves shares", "address", l.Addr())
	return &listener{port: port, stop: func() {
		cancel()
		_ = l.Close() // the server may have been quicker
	}}, nil
}

// bindFrom listens on the first port from first up that is free.
func bindFrom(addr netip.Addr, first uint16) (port uint16, l net.Listener, err error) {
	ctx := context.Background() // nothing here waits
	for port = first; port < first+portAttempts; port++ {
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
		if err == nil {
			return port, l, nil
		}
		free, freeErr := network.NextFree(ctx, network.Forward{Protocol: "tcp", HostIP: addr, HostPort: port}, nil)
		if freeErr != nil {
			break // it is not about the port
		}
		port = max(port, free-1)
	}
	return 0, nil, err
}

// end stops serving, for good: connections break, and guests wait for the next
// agent. Were exports taken away first, their handles would be stale.
func (s *shares) end() {
	s.following.Lock()
	defer s.following.Unlock()
	s.ended = true
	s.leave(nil)
	if err := s.close(); err != nil {
		s.log.Warn("cannot close the server of shares", "error", err)
	}
}

// drainTime is for what is under way when the server, or mirroring, is to end.
const drainTime = 2 * time.Second

// close ends the server, on which nobody listens any more. A request for a
// folder that does not answer keeps it from that: the next call tries again.
// following is held.
func (s *shares) close() error {
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	for len(s.served) > 0 {
		select {
		case <-s.served[0]:
			s.served = s.served[1:]
		case <-timer.C:
			return errors.New("what a guest has asked for is still under way: a folder does not answer")
		}
	}
	if s.server == nil {
		return nil
	}
	err := s.server.Close()
	s.server, s.exports = nil, nil
	return err
}

// look begins to look at all folders, so that who asks for status waits for those
// that hang together.
func (s *shares) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.wants {
		for _, share := range w.shares {
			s.folders.Begin(share.Host)
		}
	}
}

// status is what is served to a machine's guest. untold is why the guest is not
// told of file changes.
func (s *shares) status(machine string, untold error) []Share {
	s.mu.Lock()
	w := s.wants[machine]
	l, refused := s.listeners[w.listen], s.refused
	s.mu.Unlock()
	out := []Share{}
	for _, share := range w.shares {
		name := share.Export(w.owner)
		st := Share{Name: share.Name, Host: share.Host}
		if l != nil {
			st.Address = netip.AddrPortFrom(w.listen, l.port)
		} else {
			st.Error = "it is not served"
		}
		if err := cmp.Or(s.missing(share.Host), refused[name]); err != nil {
			st.Error = err.Error()
		}
		switch err := s.events.Trouble(name); {
		case errors.Is(err, watch.ErrGone):
			st.Notice = "its folder " + share.Host + " is gone: the guest is told of changes when it is back"
		case err != nil:
			st.Notice = "file changes are told late: " + err.Error()
		}
		if untold != nil && share.Events {
			st.Notice = "the guest is not told of file changes: " + untold.Error()
		}
		out = append(out, st)
	}
	return out
}
