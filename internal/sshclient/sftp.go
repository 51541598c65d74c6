package sshclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/internal/hint"
)

// ErrNoSFTP means that the guest runs no SFTP server for us.
var ErrNoSFTP = errors.New("the guest gives no SFTP")

// Lost reports whether an error of an SFTP session says that its connection has
// ended. Whoever writes may learn that from the socket before the session knows.
func Lost(err error) bool {
	for _, end := range []error{ErrLost, sftp.ErrSSHFxConnectionLost, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		if errors.Is(err, end) {
			return true
		}
	}
	_, ofSocket := errors.AsType[*net.OpError](err)
	return ofSocket
}

// Sentinels, matched with errors.Is, for what SFTP only calls a failure.
var (
	// ErrFull means that there is no space left on the guest's disk.
	ErrFull = errors.New("no space left on the guest's disk")
	// ErrReadOnly means that the guest's file system is mounted read-only.
	ErrReadOnly = errors.New("the guest's file system is mounted read-only")
)

// Failed reports whether err is the one code that SFTP has for all that it does
// not name.
func Failed(err error) bool {
	status, ok := errors.AsType[*sftp.StatusError](err)
	return ok && status.FxCode() == sftp.ErrSSHFxFailure
}

// WriteFailure returns what is behind err, of making, changing or removing
// something at a path of the guest: [ErrReadOnly], [ErrFull], or err itself.
func WriteFailure(c *sftp.Client, at string, err error) error {
	if !Failed(err) {
		return err
	}
	const (
		readOnly = 1        // a flag of statvfs@openssh.com
		hardly   = 64 << 10 // bytes that a file system may have left and still refuse to give
	)
	fsys, ferr := c.StatVFS(path.Dir(at))
	switch {
	case ferr != nil:
		return err // it is no better known
	case fsys.Flag&readOnly != 0:
		return ErrReadOnly
	case fsys.Bavail*fsys.Frsize < hardly:
		return hint.Wrap(ErrFull, "make room there: docker system df in the guest shows what takes it")
	}
	return err
}

// SFTP starts an SFTP server in the guest and talks to it: the one of its
// sshd, or with sudo one of root's. ctx bounds the start, not the session,
// which ends with Close and with the connection.
func (c *Client) SFTP(ctx context.Context, sudo bool, options ...sftp.ClientOption) (*sftp.Client, error) {
	session, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	return c.sftp(ctx, session, sudo, options)
}

// sftp takes over the session.
func (c *Client) sftp(ctx context.Context, session *ssh.Session, sudo bool, options []sftp.ClientOption) (*sftp.Client, error) {
	client, err := await(ctx, func() (*sftp.Client, error) { return startSFTP(session, sudo, options) })
	if err != nil {
		end(session)
		return nil, c.cause(err)
	}
	return client, nil
}

// rootSFTP is a command line for the server of OpenSSH, wherever it is: sshd's
// own one is not to be had for another user.
const rootSFTP = `for s in /usr/lib/openssh /usr/libexec/openssh /usr/lib64/misc /usr/libexec /usr/lib/ssh /usr/lib/misc; do
	[ ! -x $s/sftp-server ] || exec sudo -n $s/sftp-server
done
echo 'there is no sftp-server program' >&2; exit 127`

func startSFTP(session *ssh.Session, sudo bool, options []sftp.ClientOption) (*sftp.Client, error) {
	stdin, err := session.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	said := new(firstWords)
	session.Stderr = said
	if sudo {
		err = session.Start(rootSFTP)
	} else {
		err = session.RequestSubsystem("sftp")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSFTP, err)
	}
	client, err := sftp.NewClientPipe(stdout, stdin, options...)
	if err != nil {
		var exit *ssh.ExitError
		if !sudo || !errors.As(session.Wait(), &exit) {
			return nil, fmt.Errorf("%w: %w", ErrNoSFTP, err)
		}
		return nil, fmt.Errorf("%w: %s", ErrNoSFTP, said)
	}
	return client, nil
}

// firstWords keeps the beginning of what a server says, which is all that an
// error needs.
type firstWords struct {
	mu   sync.Mutex
	text []byte
}

func (w *firstWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	const most = 1 << 10
	w.text = append(w.text, p[:min(len(p), most-len(w.text))]...)
	return len(p), nil
}

func (w *firstWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(bytes.TrimSpace(w.text))
}

var _ io.Writer = (*firstWords)(nil)
