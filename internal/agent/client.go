package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/run"
	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/mirror"
)

// ErrNotRunning means that the project has no agent.
var ErrNotRunning = errors.New("no agent runs")

// Client is how commands use the project's agent.
type Client struct {
	Project  *project.Project
	Provider func(name string) (provider.Provider, error)
	// Version is hostctl's: an agent of another one is replaced.
	Version string
	// Command starts an agent for the project; it runs [Run].
	Command []string
	// Notice is told when the agent was started anew because it had died, or hung,
	// and which of the two; nil: nobody is.
	Notice func(format string, args ...any)

	told sync.Once
	// hung is set when an agent had to be ended: whoever finds what is left of it
	// is not to say that it died.
	hung atomic.Bool
	// starting: machines come up at once, and need one agent.
	starting sync.Mutex
}

const (
	// startTimeout bounds the start of an agent, and the end of the one before.
	startTimeout  = 30 * time.Second
	startInterval = 10 * time.Millisecond
	// silenceTimeout is how long an agent may leave a question about its
	// status unanswered before it counts as hung.
	silenceTimeout = 5 * time.Second
	// aliveTimeout is the same for commands that only look.
	aliveTimeout = 500 * time.Millisecond
	// stopTimeout bounds an orderly end, for an agent that was silent before
	// lastTimeout.
	stopTimeout = 15 * time.Second
	lastTimeout = time.Second
)

// Sync makes the agent follow the state as it is on disk now, starting one
// when a running machine needs it, and returns when it does. A forward of the
// machine that it cannot bind gives a *[provider.PortError]. Containers' ports
// follow when Docker answers. An agent of another version, of the place that
// the project was moved from, or of another libvirt, is replaced.
func (c *Client) Sync(ctx context.Context, machine string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*startTimeout)
	defer cancel()
	// An agent that was just ending is gone at the second attempt.
	return wait.Until(ctx, startInterval, func(ctx context.Context) error {
		err := c.sync(ctx, machine)
		if err != nil && !errors.Is(err, ErrNotRunning) {
			err = wait.Permanent(err)
		}
		return err
	})
}

func (c *Client) sync(ctx context.Context, machine string) error {
	files, err := c.Project.AgentFiles()
	if errors.Is(err, project.ErrNoState) {
		return nil
	}
	if err != nil {
		return err
	}
	if runs, err := c.ensureOne(ctx, files); err != nil || !runs {
		return err
	}
	var answer syncAnswer
	path := syncPath + "?" + url.Values{"machine": {machine}}.Encode()
	if err := call(ctx, files, http.MethodPost, path, &answer); err != nil {
		return err
	}
	return answer.err()
}

// ensureOne returns when an agent answers that fits, and false when none does and
// none is needed.
func (c *Client) ensureOne(ctx context.Context, files project.AgentFiles) (runs bool, err error) {
	c.starting.Lock()
	defer c.starting.Unlock()
	if fits, err := c.replace(ctx, files); err != nil || fits {
		return fits, err
	}
	if need, err := c.Needed(ctx); err != nil || !need {
		return false, err
	}
	became := ""
	switch lost := died(files); {
	case c.hung.Load():
		became = "did not answer, so it was ended and started anew"
	case lost:
		became = "did not run any more and was started anew"
	}
	if err := c.start(ctx); err != nil {
		return false, err
	}
	if became != "" && c.Notice != nil {
		c.told.Do(func() {
			c.Notice("the project's agent %s; what it said last is in %s", became, files.Log)
		})
	}
	return true, nil
}

// replace reports whether there is an agent that fits, and ends one that does
// not. One that does not answer, or not end when it is asked to, was hung.
func (c *Client) replace(ctx context.Context, files project.AgentFiles) (fits bool, err error) {
	asking, cancel := context.WithTimeout(ctx, silenceTimeout)
	defer cancel()
	s, err := question(asking, files)
	switch {
	case err == nil && c.fits(s):
		return true, nil
	case errors.Is(err, ErrNotRunning):
		return false, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	}
	patience := stopTimeout
	if err != nil {
		patience = lastTimeout
	}
	killed, endErr := end(ctx, files, patience)
	if killed || errors.Is(err, context.DeadlineExceeded) {
		c.hung.Store(true)
	}
	return false, endErr
}

func (c *Client) fits(s statusAnswer) bool {
	if s.Version != c.Version || s.Dir != c.Project.Dir() {
		return false
	}
	// The first machine after the last one may be at another libvirt.
	state, err := c.Project.Load()
	return err != nil || s.Libvirt == "" || state.LibvirtURI == "" || s.Libvirt == state.LibvirtURI
}

// Needed reports whether a machine runs that needs an agent. One that cannot
// be asked about is no reason to start one: it says so to those who use it.
func (c *Client) Needed(ctx context.Context) (bool, error) {
	state, err := c.Project.Load()
	if err != nil {
		return false, err
	}
	for name, ms := range state.Machines {
		p, err := c.Provider(ms.Provider)
		if err != nil || !mayNeed(p, ms) {
			continue
		}
		status, err := p.Status(ctx, name)
		if err != nil || status.State != provider.Running {
			continue
		}
		if need, err := needs(ctx, p, name, ms); need && err == nil {
			return true, nil
		}
	}
	return false, ctx.Err()
}

// start starts an agent and returns when one answers. Another command may do
// the same at this moment: one of the two agents stays.
func (c *Client) start(ctx context.Context) error {
	if len(c.Command) == 0 {
		return errors.New("start the agent: this program's own path is not known")
	}
	if _, err := c.Project.RunDir(); err != nil {
		return err
	}
	files, err := c.Project.AgentFiles()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(files.Log, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	// It outlives ctx, and this process.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.Command[0], c.Command[1:]...)
	cmd.Dir = filepath.VolumeName(c.Project.Dir()) + string(filepath.Separator) // none that it would keep busy
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = run.Detached()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // also spares the host a zombie

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = wait.Until(ctx, startInterval, func(ctx context.Context) error {
		s, err := question(ctx, files)
		if err == nil && !c.fits(s) {
			err = fmt.Errorf("an agent of hostctl %s for %s is there", s.Version, s.Dir)
		}
		if err == nil {
			return nil
		}
		select {
		case exit := <-exited:
			// Without an error it found another agent, which will answer.
			if exit != nil {
				return wait.Permanent(fmt.Errorf("the agent ended: %w: %s", exit, lastLine(files.Log, before)))
			}
		default:
		}
		return err
	})
	return hint.Wrap(err, "what the agent said is in %s", files.Log)
}

// lastLine returns the end of a log that had this size before, for an error: what
// others have said before is not the reason.
func lastLine(path string, before int64) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if before <= int64(len(data)) { // else it was shortened
		data = data[before:]
	}
	text := strings.TrimSpace(string(data))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// Ensure is for commands that use what the agent does for a machine: one that
// died is started anew. While it is alive that takes one question.
func (c *Client) Ensure(ctx context.Context, machine string) error {
	files, err := c.Project.AgentFiles()
	if errors.Is(err, project.ErrNoState) {
		return nil
	}
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	s, err := question(asking, files)
	switch {
	case err == nil && s.Dir == c.Project.Dir():
		return nil
	case err != nil && !errors.Is(err, ErrNotRunning):
		return ctx.Err() // busy, or hung: a command that changes something finds out
	}
	return c.Sync(ctx, machine)
}

// Status returns what the agent does now; [ErrNotRunning] without one.
func (c *Client) Status(ctx context.Context) (Status, error) {
	files, err := c.Project.AgentFiles()
	if errors.Is(err, project.ErrNoState) {
		err = ErrNotRunning
	}
	if err != nil {
		return Status{}, err
	}
	s, err := question(ctx, files)
	return s.Status, err
}

// ErrNotMirrored means that no agent keeps the guest's copy of a share, or not
// at this moment.
var ErrNotMirrored = errors.New("the agent does not mirror the share")

// Mirror has the agent compare both sides of a machine's share, tells how far
// that is (nil: nobody wants to know), and returns what it came to, and what
// the agent had done last before, nil if nothing; [ErrNotMirrored] where it does
// not mirror the share.
func (c *Client) Mirror(ctx context.Context, machine, share string, progress func(mirror.Progress)) (*mirror.Result, *Earlier, error) {
	files, err := c.Project.AgentFiles()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNotMirrored, err)
	}
	path := mirrorPath + "?" + url.Values{"machine": {machine}, "share": {share}}.Encode()
	var last mirrorAnswer
	err = exchange(ctx, files, http.MethodPost, path, func(body io.Reader) error {
		answers := json.NewDecoder(body)
		for {
			last = mirrorAnswer{}
			if err := answers.Decode(&last); err != nil || last.Progress == nil {
				return err
			}
			if progress != nil {
				progress(*last.Progress)
			}
		}
	})
	switch {
	case ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrNotMirrored, err)
	case last.Result == nil:
		return nil, nil, ErrNotMirrored
	}
	result, err := last.result()
	return result, last.Earlier, err
}

// Stop ends the agent, and with it all that it carries. One that does not run
// is not an error. It can be called after the project was destroyed.
func (c *Client) Stop(ctx context.Context) error {
	files, err := c.Project.AgentFiles()
	if errors.Is(err, project.ErrNoState) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = end(ctx, files, stopTimeout)
	return err
}

// end asks the agent to end, and returns when its process has let go. One that
// does not within patience is killed.
func end(ctx context.Context, files project.AgentFiles, patience time.Duration) (killed bool, err error) {
	err = within(ctx, patience, func(ctx context.Context) error {
		return call(ctx, files, http.MethodPost, stopPath, nil)
	})
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err == nil || errors.Is(err, ErrNotRunning) {
		if err := awaitEnd(ctx, files, patience); err == nil || ctx.Err() != nil {
			return false, err
		}
	}
	if busy, err := held(files); err != nil || !busy {
		return false, err
	}
	if err := kill(files); err != nil {
		return false, fmt.Errorf("end an agent that hangs: %w", err)
	}
	return true, awaitEnd(ctx, files, stopTimeout)
}

// awaitEnd waits until no process is the project's agent.
func awaitEnd(ctx context.Context, files project.AgentFiles, patience time.Duration) error {
	return within(ctx, patience, func(ctx context.Context) error {
		return wait.Until(ctx, startInterval, func(context.Context) error {
			busy, err := held(files)
			switch {
			case err != nil:
				return wait.Permanent(err)
			case busy:
				return errors.New("the agent does not end")
			}
			return nil
		})
	})
}

func question(ctx context.Context, files project.AgentFiles) (statusAnswer, error) {
	var s statusAnswer
	err := call(ctx, files, http.MethodGet, statusPath, &s)
	return s, err
}

// call asks the agent for one answer. Nobody behind the socket is [ErrNotRunning].
func call(ctx context.Context, files project.AgentFiles, method, path string, answer any) error {
	return exchange(ctx, files, method, path, func(body io.Reader) error {
		if answer == nil {
			_, err := io.Copy(io.Discard, body)
			return err
		}
		return json.NewDecoder(body).Decode(answer)
	})
}

// exchange is call with answers that read takes.
func exchange(ctx context.Context, files project.AgentFiles, method, path string, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialSocket(ctx, files.Socket)
		},
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && ctx.Err() == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %w", ErrNotRunning, err)
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the agent answered %s", resp.Status)
	}
	if err := read(resp.Body); err != nil {
		return fmt.Errorf("the agent's answer: %w", err)
	}
	return nil
}
