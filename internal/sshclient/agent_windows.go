package sshclient

import (
	"cmp"
	"context"
	"io"
	"os"
)

// OpenSSH for Windows has its agent at a named pipe, which opens like a file.
func dialAgent(_ context.Context, socket string) (io.ReadWriteCloser, error) {
	return os.OpenFile(cmp.Or(socket, `\\.\pipe\openssh-ssh-agent`), os.O_RDWR, 0)
}
