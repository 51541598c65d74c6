package network

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// Errors of winsock2.h; syscall's own numbers are none that Windows gives.
const (
	errAddrInUse = syscall.Errno(10048) // WSAEADDRINUSE
	// errForbidden is WSAEACCES: a port that the system set aside (Hyper-V
	// does with whole ranges), or one that a process holds for itself alone.
	errForbidden = syscall.Errno(10013)
)

// soExclusiveAddrUse is SO_EXCLUSIVEADDRUSE of winsock2.h: ~SO_REUSEADDR.
const soExclusiveAddrUse = ^4

// bindBesideWildcard binds addr once more with SO_EXCLUSIVEADDRUSE: without
// it, Windows lets one address be bound beside a listener on all of them.
func bindBesideWildcard(ctx context.Context, protocol string, addr netip.AddrPort) error {
	exclusive := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(syscall.Handle(fd), syscall.SOL_SOCKET, soExclusiveAddrUse, 1)
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	return bindWith(ctx, exclusive, protocol, addr)
}
