package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

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

// maxSaid is how much an error quotes of what a command wrote.
const maxSaid = 4 << 10

func (guests) Exec(ctx context.Context, t sshclient.Target, command string, stdin io.Reader) error {
	c, err := sshclient.Dial(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // the command has ended
	var said bytes.Buffer
	status, err := c.Exec(ctx, command, sshclient.Streams{In: stdin, Err: &said})
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("exit status %d: %s", status, bytes.TrimSpace(said.Next(maxSaid)))
	}
	return nil
}
