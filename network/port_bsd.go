//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

const (
	errAddrInUse = syscall.EADDRINUSE
	errForbidden = syscall.EACCES
)

// bindBesideWildcard binds addr once more without SO_REUSEADDR, with which the
// BSDs let 127.0.0.1:80 be bound beside somebody's *:80. Connections in
// TIME_WAIT refuse that too, so only a visible holder counts.
func bindBesideWildcard(ctx context.Context, protocol string, addr netip.AddrPort) error {
	strict := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	err := bindWith(ctx, strict, protocol, addr)
	if errors.Is(err, errAddrInUse) {
		if _, held := Holder(ctx, protocol, addr); !held {
			return nil
		}
	}
	return err
}
