package events

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hostctl/hostctl/sync/nfs"
	"github.com/hostctl/hostctl/sync/watch"
)

const (
	// readyTime is for an emulated guest that boots, and a mount that takes long.
	readyTime = 90 * time.Second
	// answerTime is for the operations of one chunk.
	answerTime = 90 * time.Second
	// lastWords is for what the shell said before it ended.
	lastWords = time.Second
	maxChunk  = 256
	maxBytes  = 48 << 10 // of names in a chunk
	// maxClosed files at one time are told to have been closed as well: a
	// process is needed for each.
	maxClosed = 32
)

// enter.sh has a shell that can change nothing but what is in the shares, which
// the server has it not change.
//
//go:embed enter.sh
var enter string

// replay.sh is what that shell runs.
//
//go:embed replay.sh
var replay string

// session is a shell in a guest.
type session struct {
	shares []Share
	replay *nfs.Replay
	queue  *queue
	cancel context.CancelCauseFunc

	in    *io.PipeWriter
	lines chan string
	tasks sync.WaitGroup
	count int
}

func (s *session) command() string {
	args := []string{"sudo", "-n", "unshare", "--mount", "--propagation", "private", "sh", "-c", enter, "hostctl-events",
		strconv.FormatUint(uint64(s.replay.Group()), 10), replay}
	for _, share := range s.shares {
		args = append(args, share.Guest)
	}
	for i, a := range args {
		args[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(args, " ")
}

// start returns when the shell has everything in place.
func (s *session) start(ctx context.Context, guest Guest) error {
	in, inWriter := io.Pipe()
	out, outWriter := io.Pipe()
	s.in, s.lines = inWriter, make(chan string)
	heard := make(chan struct{}) // all that the shell has said
	var complaints tail
	s.tasks.Go(func() {
		exit, err := guest.Exec(ctx, s.command(), in, outWriter, &complaints)
		if err == nil {
			err = fmt.Errorf("the shell in the guest ended with %d: %s", exit, complaints.String())
		}
		_ = in.CloseWithError(err)        // what is written to it fails with err
		_ = outWriter.CloseWithError(err) // and what is read
		select {
		case <-heard: // its last words say more than its end
		case <-time.After(lastWords):
		}
		s.cancel(err)
	})
	s.tasks.Go(func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			select {
			case s.lines <- lines.Text():
			case <-ctx.Done():
			}
		}
		_ = out.Close() // what is still written is not wanted
		close(heard)
	})
	err := s.hear(ctx, "ready", readyTime)
	if err == nil {
		// The first call shows the server which guest it is.
		if err = s.operate(ctx, "list", s.roots()); err == nil {
			err = s.done(ctx)
		}
	}
	if err != nil {
		s.cancel(err)
		s.wait()
	}
	return err
}

func (s *session) roots() []string {
	var all []string
	for i := range s.shares {
		all = append(all, place(key{i, ""}))
	}
	return all
}

// wait ends the shell. The context must have ended.
func (s *session) wait() {
	_ = s.in.Close() // ends the shell; nothing is lost
	s.tasks.Wait()
}

// hear waits for a line from the shell.
func (s *session) hear(ctx context.Context, want string, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case line := <-s.lines:
		if line != want {
			return errors.New(line)
		}
		return nil
	case <-timer.C:
		return errSilent
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// push queues what the guest does not know by itself. It does not wait for the
// guest.
func (s *session) push(ctx context.Context, share int, changes []watch.Change) {
	s.replay.Settle(ctx)
	for _, c := range changes {
		created := c.Kind == watch.Created || c.Kind == watch.Replaced
		if !s.replay.Made(s.shares[share].Export, c.Path, created, c.Info) {
			s.queue.add(share, c)
		}
	}
}

// run replays what comes.
func (s *session) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.queue.wake:
		}
		if err := s.tell(ctx, s.queue.take()); err != nil {
			return err
		}
	}
}

// tell replays changes: what is gone first, then what is made, from the root,
// then what has changed.
func (s *session) tell(ctx context.Context, all []*todo) error {
	for share := range s.shares {
		var mine []*todo
		for _, t := range all {
			if t.share == share {
				mine = append(mine, t)
			}
		}
		if len(mine) == 0 {
			continue
		}
		if err := s.remove(ctx, share, mine); err != nil {
			return err
		}
		if err := s.create(ctx, share, mine); err != nil {
			return err
		}
		if err := s.change(ctx, share, mine); err != nil {
			return err
		}
	}
	return nil
}

// remove replays what is gone. The guest must not take the file that it knows by
// the name for the one that goes: a folder may have been moved and lives on, and
// a file that is open in the guest would be renamed by it. It asks about names
// in a folder that it sees to have changed, and is given a ghost.
//
// So nobody would be told of what was in a folder that goes: that is left out.
func (s *session) remove(ctx context.Context, share int, all []*todo) error {
	var steps []nfs.Step
	var run runs
	gone := map[string]bool{} // folders
	for _, t := range all {
		if !t.remove {
			continue
		}
		if gone[parent(t.path)] {
			gone[t.path] = true // was in it
			continue
		}
		steps = append(steps, nfs.Step{Path: t.path, Removed: true, Dir: t.removeDir})
		run.add("list", key{share, parent(t.path)})
		gone[t.path] = t.removeDir
	}
	run.compact()
	for _, step := range steps {
		op := "remove"
		if step.Dir {
			op = "rmdir"
		}
		run.add(op, key{share, step.Path})
	}
	s.replay.Expect(s.shares[share].Export, steps)
	return s.all(ctx, run)
}

func (s *session) create(ctx context.Context, share int, all []*todo) error {
	var steps []nfs.Step
	var run runs
	for _, t := range all {
		if !t.create {
			continue
		}
		steps = append(steps, nfs.Step{Path: t.path, Dir: t.mode.IsDir()})
		op := "make"
		if t.mode.IsDir() {
			op = "mkdir"
		}
		run.add(op, t.key)
	}
	s.replay.Expect(s.shares[share].Export, steps)
	return s.all(ctx, run)
}

// change replays what is written, and what takes the place of a file: the guest
// asks what has the name now, in a folder that it sees to have changed.
func (s *session) change(ctx context.Context, share int, all []*todo) error {
	var run runs
	for _, t := range all {
		if t.replace {
			run.add("list", key{share, parent(t.path)})
		}
	}
	run.compact()
	for _, t := range all {
		if t.write {
			run.add("write", t.key)
		}
	}
	closed := 0
	for _, t := range all {
		if t.write && closed < maxClosed {
			run.add("close", t.key)
			closed++
		}
	}
	for _, t := range all {
		if t.attribute && !t.create {
			run.add("attributes", t.key)
		}
	}
	return s.all(ctx, run)
}

// runs are operations in order, those of one kind that follow each other taken
// together.
type runs []operation

type operation struct {
	op    string
	names []string
}

func (r *runs) add(op string, k key) {
	if n := len(*r); n == 0 || (*r)[n-1].op != op {
		*r = append(*r, operation{op: op})
	}
	last := &(*r)[len(*r)-1]
	last.names = append(last.names, place(k))
}

// compact has each operation done once to names that follow each other.
func (r runs) compact() {
	for i := range r {
		r[i].names = slices.Compact(r[i].names)
	}
}

// place is where the shell has a path. It never begins with a dash.
func place(k key) string { return path.Join("share", strconv.Itoa(k.share), k.path) }

func parent(p string) string {
	if p = path.Dir(p); p != "." {
		return p
	}
	return ""
}

func (s *session) all(ctx context.Context, all runs) error {
	for _, r := range all {
		if err := s.operate(ctx, r.op, r.names); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	return s.done(ctx)
}

// operate has the shell do one thing to files; [session.done] waits for it.
func (s *session) operate(ctx context.Context, op string, names []string) error {
	for len(names) > 0 {
		var b bytes.Buffer
		n := 0
		for n < len(names) && n < maxChunk && b.Len() < maxBytes && !strings.Contains(names[n], "\n") {
			b.WriteString(names[n] + "\n")
			n++
		}
		msg := fmt.Appendf(nil, "%s %d\n%s", op, n, b.Bytes())
		if n == 0 {
			msg = fmt.Appendf(nil, "%s 0 %d\n%s", op, len(names[0]), names[0])
			n = 1
		}
		names = names[n:]
		if err := s.write(ctx, msg); err != nil {
			return err
		}
	}
	return nil
}

// done waits until the shell has done all.
func (s *session) done(ctx context.Context) error {
	s.count++
	line := "done " + strconv.Itoa(s.count)
	if err := s.write(ctx, []byte(line+"\n")); err != nil {
		return err
	}
	return s.hear(ctx, line, answerTime)
}

// write sends to the shell, which reads when it has nothing to do.
func (s *session) write(ctx context.Context, b []byte) error {
	stop := time.AfterFunc(answerTime, func() { s.cancel(errSilent) })
	defer stop.Stop()
	_, err := s.in.Write(b)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if over := len(t.b) - 1024; over > 0 {
		t.b = t.b[over:]
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
