package exports

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/run"
)

// ErrNotAllowed means that sudo did not let root's side run.
var ErrNotAllowed = errors.New("sudo does not allow it")

const notAllowedAdvice = `run it in a terminal, or let sudo ask no more (hostctl share sudoers), or use server = "embedded"`

// Client has requests applied, as root where something is to change.
type Client struct {
	Server
	Owner Owner
	// Helper is the command line that calls [Serve]: see [HelperFor].
	Helper []string
	// Ask is called when sudo has to ask for a password: it calls sudo when the
	// terminal is free for that, once. Nil is where nobody is there to type one.
	Ask func(ctx context.Context, why string, sudo func() error) error
}

// HelperFor returns the command that is root's side of the program at path: the
// word alone, so that a rule of sudo's can name all of it.
func HelperFor(path, word string) []string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a rule would be about the link, and links are easily turned
	}
	return []string{path, word}
}

// Ensure makes the system's server export what r asks for and nothing else of the
// project's. Where nothing is to change it runs nothing. sudo is asked without a
// password first, then with one, once. Errors are those of [Server.Check] and
// [Server.Apply], and [ErrNotAllowed].
func (c *Client) Ensure(ctx context.Context, r Request) (Found, error) {
	found, err := c.Check(r, c.Owner)
	if err != nil || found.Wanted {
		return found, err
	}
	if IsRoot() {
		return c.Apply(ctx, r, c.Owner)
	}
	reply, err := c.sudo(ctx, call{Request: r}, "-n")
	if errors.Is(err, ErrNotAllowed) && c.Ask != nil {
		err = c.Ask(ctx, "the system's NFS server is to "+r.purpose()+
			", which takes root; without this question from now on: hostctl share sudoers", func() error {
			var err error
			reply, err = c.sudo(ctx, call{Request: r})
			return err
		})
		if hint.Of(err) == "" {
			err = hint.Wrap(err, "%s", notAllowedAdvice)
		}
	}
	if err != nil {
		return found, err
	}
	return reply.result()
}

// purpose says what r is for.
func (r Request) purpose() string {
	switch len(r.Exports) {
	case 0:
		return "export nothing of this project any more"
	case 1:
		return "export " + r.Exports[0].Path
	}
	paths := make([]string, len(r.Exports))
	for i, e := range r.Exports {
		paths[i] = e.Path
	}
	return "export " + strings.Join(paths, ", ")
}

// Allowed reports whether sudo runs root's side without a password: nil, or
// [ErrNotAllowed]. A password that was typed lately does not count.
func (c *Client) Allowed(ctx context.Context) error {
	if IsRoot() {
		return nil
	}
	_, err := c.sudo(ctx, call{Probe: true}, "-k", "-n")
	return err
}

// call is what root's side reads, and reply what it writes.
type call struct {
	Request
	Probe bool `json:"probe,omitempty"` // do nothing
}

type reply struct {
	Mistakes []*Mistake `json:"mistakes,omitempty"` // of others, that do no harm
	Mistake  *Mistake   `json:"mistake,omitempty"`  // why nothing was done
	Error    string     `json:"error,omitempty"`
	Hint     string     `json:"hint,omitempty"`
}

func (r reply) result() (Found, error) {
	found := Found{Mistakes: r.Mistakes}
	var err error
	switch {
	case r.Mistake != nil:
		err = r.Mistake
	case r.Error != "":
		err = errors.New(r.Error)
	}
	if r.Hint != "" {
		err = hint.Wrap(err, "%s", r.Hint)
	}
	return found, err
}

// maxCall bounds what root reads.
const maxCall = 1 << 20

// Serve is root's side: it reads a call, applies it for the owner, and writes how
// that went. An error is one of reading and writing alone.
func Serve(ctx context.Context, s Server, o Owner, in io.Reader, out io.Writer) error {
	var c call
	d := json.NewDecoder(io.LimitReader(in, maxCall))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return fmt.Errorf("what is to be exported: %w", err)
	}
	var r reply
	if !c.Probe {
		found, err := s.Apply(ctx, c.Request, o)
		r.Mistakes, r.Hint = found.Mistakes, hint.Of(err)
		if m, ok := errors.AsType[*Mistake](err); ok {
			r.Mistake = m
		} else if err != nil {
			r.Error = err.Error()
		}
	}
	return json.NewEncoder(out).Encode(r)
}

// sudo has root's side take a call. Where it has not answered, sudo has refused.
func (c *Client) sudo(ctx context.Context, what call, flags ...string) (reply, error) {
	in, err := json.Marshal(what)
	if err != nil {
		return reply{}, err
	}
	argv := append([]string{"sudo"}, flags...)
	argv = append(append(argv, "--"), c.Helper...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	// sudo itself asks on the terminal, whatever the standard streams are.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	var r reply
	if json.Unmarshal(stdout.Bytes(), &r) == nil {
		return r, nil
	}
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	if err == nil {
		err = errors.New("no answer")
	}
	err = &run.Error{Argv: argv, Stderr: strings.TrimSpace(stderr.String()), Err: err}
	if run.IsMissing(err) {
		return r, hint.Wrap(fmt.Errorf("%w: %w", ErrNotAllowed, err), "run this command as root, or use server = \"embedded\"")
	}
	return r, hint.Wrap(fmt.Errorf("%w: %w", ErrNotAllowed, err), "%s", notAllowedAdvice)
}
