package main

import (
	"context"

	"github.com/hostctl/hostctl/internal/dockerhost"
	"github.com/hostctl/hostctl/internal/sshclient"
)

// guests asks real guests.
type guests struct{}

func (guests) WaitSSH(ctx context.Context, t sshclient.Target) error { return sshclient.Wait(ctx, t) }

func (guests) WaitDocker(ctx context.Context, host string) error {
	return dockerhost.WaitReady(ctx, host)
}

func (guests) PingDocker(ctx context.Context, host string) error { return dockerhost.Ping(ctx, host) }
