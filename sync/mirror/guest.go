package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/sshclient"
)

// Conn is a connection to the guest: *[sshclient.Client], or for several shares
// *[sshclient.Sessions], since each keeps a session.
type Conn interface {
	Exec(ctx context.Context, command string, s sshclient.Streams) (int, error)
	SFTP(ctx context.Context, sudo bool, options ...sftp.ClientOption) (*sftp.Client, error)
}

// guest is the share's folder in the guest.
type guest struct {
	conn Conn
	root string
	skip Matcher

	id         string // of this copy, as found or made by list
	made       bool   // there was none
	tar        bool   // the guest has tar
	shell      bool   // the guest runs commands
	incomplete string // why not all of it could be listed, or ""
	startSFTP  func() (*sftp.Client, error)
	end        func() // ends the session, if there is one
}

const (
	// packet is the most that OpenSSH's server takes in one write or gives in
	// one read (limits@openssh.com).
	packet = 255 * 1024
	// requests is how many packets of a file are on their way: enough to fill
	// the 2 MiB that sshd takes unread.
	requests = 16
	// paths is how many paths are worked on at once, where each is a round
	// trip or a few.
	paths = 64
)

// sftp starts the session at its first use: a run with nothing to do needs none.
func (g *guest) sftp() (*sftp.Client, error) { return g.startSFTP() }

// connect prepares the session; end ends it, if there was one.
func (g *guest) connect(ctx context.Context) (end func()) {
	var mu sync.Mutex
	var started *sftp.Client
	g.startSFTP = func() (*sftp.Client, error) {
		mu.Lock()
		defer mu.Unlock()
		if started != nil {
			return started, nil
		}
		// One that fails is tried again: it may be that the guest gave no more
		// sessions at that moment.
		client, err := g.conn.SFTP(ctx, false,
			sftp.MaxPacketUnchecked(packet), sftp.MaxConcurrentRequestsPerFile(requests), sftp.UseConcurrentWrites(true))
		if err == nil {
			started = client
		}
		return client, err
	}
	g.end = func() {
		mu.Lock()
		defer mu.Unlock()
		if started != nil {
			_ = started.Close() // what was sent was answered, or is given up
		}
	}
	return g.end
}

func (g *guest) path(p string) string { return g.root + "/" + p }

// own is a path below the directory of what is not whole yet.
func (g *guest) own(name string) string { return g.path(guestDir + "/" + name) }

// run executes a shell script with arguments and returns what it wrote. A
// status other than 0 is a *scriptError.
func (g *guest) run(ctx context.Context, in io.Reader, out io.Writer, script string, args ...string) error {
	var said bytes.Buffer
	words := append([]string{"exec", "sh", "-c", script, "sh"}, args...)
	exit, err := g.conn.Exec(ctx, sshclient.Quote(words...), sshclient.Streams{In: in, Out: out, Err: &limited{w: &said, n: 4 << 10}})
	if err == nil && exit != 0 {
		err = &scriptError{exit, strings.TrimSpace(said.String())}
	}
	return err
}

// scriptError is a command that the guest ended with another status than 0.
type scriptError struct {
	exit int
	said string
}

func (e *scriptError) Error() string {
	if e.said == "" {
		return fmt.Sprintf("the guest's command ended with status %d", e.exit)
	}
	return "the guest: " + e.said
}

// limited drops what is more than n bytes: a guest may say much.
type limited struct {
	w io.Writer
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	keep := min(len(p), l.n)
	l.n -= keep
	if _, err := l.w.Write(p[:keep]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// errGuestFolder is the folder that is not there and cannot be made.
var errGuestFolder = errors.New("the guest's folder cannot be made or written")

func (g *guest) folderError(err error) error {
	return hint.Wrap(fmt.Errorf("%w: %s: %w", errGuestFolder, g.root, err),
		"make it in the guest, writable for the user who logs in")
}

// inTheWay says that a file, or a link that leads nowhere, stands where the
// folder is to be.
func (g *guest) inTheWay(file string) error {
	err := fmt.Errorf("%w: %s is there and no folder", errGuestFolder, file)
	if file != g.root {
		err = fmt.Errorf("%w: %s: %s is there and no folder", errGuestFolder, g.root, file)
	}
	return hint.Wrap(err, "move it away in the guest, or give the share another guest path")
}
