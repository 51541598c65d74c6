//go:build !windows

package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/sync/mirror"
)

// Whoever asks for a share to be mirrored sees how far that is, and in the end
// all that was done since: also by the run that was under way, which has taken
// what they ask for.
func TestAskingWhileItRuns(t *testing.T) {
	t.Parallel()
	home, err := os.MkdirTemp("", "hc") // sockets' paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	p, err := project.Open(home, project.Options{StateHome: home})
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := p.Lock(t.Context(), "test", nil)
	if err == nil {
		err = errors.Join(p.Update(func(*project.State) error { return nil }), unlock())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.RunDir(); err != nil {
		t.Fatal(err)
	}
	files, err := p.AgentFiles()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	c := &copying{share: project.ShareSpec{Name: "www"}, log: log, now: make(chan func(*mirror.Result, error)), gone: make(chan struct{})}
	a := &agent{log: log, done: context.Background(), workers: map[string]*running{"core": {worker: &worker{copies: []*copying{c}}}}}
	l, err := net.Listen("unix", files.Socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: a.handler()}
	go func() { _ = server.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })

	put := func(path string) *mirror.Result {
		return &mirror.Result{Changes: []mirror.Change{{Action: "put", On: "guest", Path: path}}, Files: 1, Bytes: 10}
	}
	c.began()
	c.done(put("before"), nil)
	c.began()
	c.progress(mirror.Progress{Files: 1, TotalFiles: 3, Bytes: 10, TotalBytes: 30})
	told := make(chan mirror.Progress)
	type answer struct {
		result  *mirror.Result
		earlier *Earlier
		err     error
	}
	answered := make(chan answer, 1)
	go func() {
		client := &Client{Project: p}
		r, e, err := client.Mirror(t.Context(), "core", "www", func(p mirror.Progress) {
			select {
			case told <- p:
			default: // it is told again
			}
		})
		answered <- answer{r, e, err}
	}()
	if p := <-told; p != (mirror.Progress{Files: 1, TotalFiles: 3, Bytes: 10, TotalBytes: 30}) {
		t.Errorf("told of %+v", p)
	}
	c.done(put("meanwhile"), nil)
	now := <-c.now
	c.began()
	c.done(put("asked for"), nil)
	now(put("asked for"), nil)

	got := <-answered
	if got.err != nil {
		t.Fatal(got.err)
	}
	var paths []string
	for _, c := range got.result.Changes {
		paths = append(paths, c.Path)
	}
	if !slices.Equal(paths, []string{"meanwhile", "asked for"}) || got.result.Files != 2 || got.result.Bytes != 20 {
		t.Errorf("it did %+v", got.result)
	}
	if got.earlier == nil || got.earlier.Changes != 1 || got.earlier.Files != 1 || got.earlier.Bytes != 10 {
		t.Errorf("and before %+v", got.earlier)
	}
}
