package sshclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/sshtest"
)

// More sessions than sshd gives on one connection, all at the same time.
func TestSessions(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 10} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			s := sshtest.Start(t, fmt.Sprint("MaxSessions ", most))
			first, err := sshclient.Dial(t.Context(), s.Target)
			if err != nil {
				t.Fatal(err)
			}
			c := sshclient.NewSessions(first)
			const wanted = 12
			var held, all sync.WaitGroup
			held.Add(wanted)
			for i := range wanted {
				all.Go(func() {
					in, typing := io.Pipe()
					done := sync.OnceFunc(held.Done)
					said := &spoken{done: done}
					go func() {
						held.Wait()
						_ = typing.Close() // the command ends
					}()
					exit, err := c.Exec(t.Context(), fmt.Sprintf("echo %d; cat", i), sshclient.Streams{In: in, Out: said})
					done() // or the others would wait for one that failed
					if want := fmt.Sprintln(i); exit != 0 || err != nil || said.String() != want {
						t.Errorf("session %d: %q, %d, %v", i, said.String(), exit, err)
					}
				})
			}
			all.Wait()
			files, err := c.SFTP(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := files.Getwd(); err != nil {
				t.Error(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if _, err := files.Getwd(); err == nil {
				t.Error("a connection is left")
			}
			if _, err := c.SFTP(context.Background(), false); !errors.Is(err, sshclient.ErrLost) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// A guest that gives no session at all is not asked for ever.
func TestNoSessions(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, "MaxSessions 0")
	first, err := sshclient.Dial(t.Context(), s.Target)
	if err != nil {
		t.Fatal(err)
	}
	c := sshclient.NewSessions(first)
	defer c.Close()
	if _, err := c.Exec(t.Context(), "true", sshclient.Streams{}); err == nil || errors.Is(err, sshclient.ErrLost) {
		t.Errorf("Exec() without sessions: %v", err)
	}
}

// spoken calls done when something is said.
type spoken struct {
	strings.Builder
	done func()
}

func (s *spoken) Write(p []byte) (int, error) {
	s.done()
	return s.Builder.Write(p)
}
