//go:build !linux && !darwin

package nfs

import (
	"context"
	"net"
)

// Server is not there on this system.
type Server struct{}

// NewServer returns [ErrUnsupported].
func NewServer(Config) (*Server, error) { return nil, ErrUnsupported }

// Serve returns [ErrUnsupported].
func (*Server) Serve(context.Context, net.Listener) error { return ErrUnsupported }

// Export returns [ErrUnsupported].
func (*Server) Export([]Export) error { return ErrUnsupported }

// Await does nothing.
func (*Server) Await([]string) {}

// Close does nothing.
func (*Server) Close() error { return nil }
