package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/events"
	"github.com/hostctl/hostctl/sync/nfs"
)

// Ports that shares are served on lie below those that systems give to
// connections of their own (Linux: from 32768, others: from 49152): the port
// must be free again when the agent is.
const (
	firstSharePort = 20000
	sharePorts     = 10000
	portAttempts   = 100
)

// serves reports whether the machine has shares of the agent's server.
func serves(p provider.Provider, ms project.MachineState) bool {
	_, reached := provider.As[provider.HostAddresser](p)
	return reached && len(ms.Served()) > 0
}

// shares is the project's NFS server. It serves the shares of the machines that
// run, on the addresses where their guests reach this host.
type shares struct {
	project *project.Project
	log     *slog.Logger
	replays *nfs.Replays // of all its servers
	events  *events.Hub

	mu        sync.Mutex
	wants     map[string]want // by machine
	exports   []nfs.Export    // of the server
	server    *nfs.Server     // nil: nothing to serve
	listeners map[netip.Addr]*listener
}

// want is what one machine's guest is to be served.
type want struct {
	listen netip.Addr
	shares []project.ShareSpec
	owner  uint32 // the guest's user, to whom this host's files belong
}

// listener is an address that the server answers on.
type listener struct {
	port uint16
	stop func()
}

func newShares(p *project.Project, log *slog.Logger) *shares {
	replays := nfs.NewReplays()
	return &shares{project: p, log: log, replays: replays, events: events.New(replays, log), wants: map[string]want{}, listeners: map[netip.Addr]*listener{}}
}

// set serves a machine's guest exactly this; nothing without shares. It says
// what of that cannot be: the rest is served all the same.
func (s *shares) set(machine string, w want) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(w.shares) == 0 {
		delete(s.wants, machine)
	} else {
		s.wants[machine] = w
	}
	err := s.follow()
	for _, share := range w.shares {
		if err != nil || slices.ContainsFunc(s.exports, exportOf(share)) {
			continue
		}
		if gone := missing(share.Host); gone != nil { // or else it has come back just now
			err = fmt.Errorf("share %q: %w", share.Name, gone)
		}
	}
	return err
}

func exportOf(share project.ShareSpec) func(nfs.Export) bool {
	name := share.Export()
	return func(e nfs.Export) bool { return e.Name == name }
}

// missing says why a folder cannot be served.
func missing(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a folder", dir)
	}
	return err
}

// follow has the server serve what is wanted. Guests see nothing of a new
// server but a broken connection, which they make anew. The caller holds the
// lock.
func (s *shares) follow() error {
	exports, addrs := s.wanted()
	if !slices.Equal(exports, s.exports) {
		before := s.server
		if err := s.close(); err != nil {
			return err
		}
		// A server begins with folders that are there.
		exports = slices.DeleteFunc(exports, func(e nfs.Export) bool { return missing(e.Dir) != nil })
		if len(exports) == 0 {
			return nil
		}
		server, err := s.open(exports, before)
		if err != nil {
			return err
		}
		s.server, s.exports = server, exports
	}
	var errs []error
	for addr, l := range s.listeners {
		if !slices.Contains(addrs, addr) {
			l.stop()
			delete(s.listeners, addr)
		}
	}
	for _, addr := range addrs {
		if s.server == nil || s.listeners[addr] != nil {
			continue
		}
		l, err := s.listen(addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("serve shares on %s: %w", addr, err))
			continue
		}
		s.listeners[addr] = l
	}
	return errors.Join(errs...)
}

// wanted are the exports and addresses that machines need. A folder that is
// missing is left out, unless it is served already: the server knows how to
// wait for it.
func (s *shares) wanted() (exports []nfs.Export, addrs []netip.Addr) {
	for _, w := range s.wants {
		if !slices.Contains(addrs, w.listen) {
			addrs = append(addrs, w.listen)
		}
		for _, share := range w.shares {
			is := exportOf(share)
			if slices.ContainsFunc(exports, is) || missing(share.Host) != nil && !slices.ContainsFunc(s.exports, is) {
				continue
			}
			exports = append(exports, nfs.Export{Name: share.Export(), Dir: share.Host, ReadOnly: share.ReadOnly})
		}
	}
	slices.SortFunc(exports, func(a, b nfs.Export) int { return cmp.Compare(a.Name, b.Name) })
	return exports, addrs
}

func (s *shares) open(exports []nfs.Export, before *nfs.Server) (*nfs.Server, error) {
	key, err := s.project.ShareKey()
	if err != nil {
		return nil, err
	}
	// One owner for all: guests of one project are mostly of one family.
	owner := s.wants[slices.Min(slices.Collect(maps.Keys(s.wants)))].owner
	return nfs.NewServer(nfs.Config{
		Key: key, Exports: exports, UID: owner, GID: owner, State: s.project.SharesDir(), Logger: s.log,
		Replays: s.replays, After: before,
	})
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
	stop := background(context.Background(), func(ctx context.Context) {
		if err := server.Serve(ctx, l); err != nil {
			s.log.Warn("no longer serves shares", "address", l.Addr(), "error", err)
		}
	})
	s.log.Info("serves shares", "address", l.Addr())
	return &listener{port: port, stop: stop}, nil
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

// end stops serving.
func (s *shares) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.close(); err != nil {
		s.log.Warn("cannot close the server of shares", "error", err)
	}
}

// close stops serving. The caller holds the lock.
func (s *shares) close() error {
	for addr, l := range s.listeners {
		l.stop()
		delete(s.listeners, addr)
	}
	if s.server == nil {
		return nil
	}
	err := s.server.Close()
	s.server, s.exports = nil, nil
	return err
}

// status is what is served to a machine's guest.
func (s *shares) status(machine string) []Share {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Share{}
	w := s.wants[machine]
	for _, share := range w.shares {
		st := Share{Name: share.Name, Host: share.Host}
		if l := s.listeners[w.listen]; l != nil {
			st.Address = netip.AddrPortFrom(w.listen, l.port)
		} else {
			st.Error = "it is not served"
		}
		if err := missing(share.Host); err != nil {
			st.Error = err.Error()
		}
		if err := s.events.Trouble(share.Export()); err != nil && st.Error == "" {
			st.Error = "file changes are told late: " + err.Error()
		}
		out = append(out, st)
	}
	return out
}

// owner is the number of the guest's user.
func owner(ms project.MachineState) uint32 {
	if ms.Image.Guest.Family == "fedora-coreos" {
		return 1000
	}
	return 500 // Flatcar, and images made like it
}
