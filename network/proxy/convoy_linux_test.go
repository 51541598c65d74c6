package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
)

// convoyGoes waits until a convoy goes round, or none does. Tests that call it
// do not run beside others.
func convoyGoes(t *testing.T, want bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := wait.Until(ctx, time.Millisecond, func(context.Context) error {
		if strings.Contains(stacks(), "(*convoy).goRound") != want {
			return errors.New("not so")
		}
		return nil
	})
	if err != nil {
		t.Fatalf("a convoy goes: %v wanted", want)
	}
}

// pour has src send until it fails, and dst take some of it.
func pour(t *testing.T, src, dst net.Conn) (failed <-chan struct{}) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		block := make([]byte, 1<<20)
		for {
			if _, err := src.Write(block); err != nil {
				return
			}
		}
	}()
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		_, _ = io.CopyN(io.Discard, dst, 64<<20) // the test says what is wrong
	}()
	convoyGoes(t, true)
	<-taken
	return ended
}

// Who reads in fits and starts gets everything in order, and the end after it.
func TestConvoyAndSlowReader(t *testing.T) {
	client, server := through(t)
	data := make([]byte, 32<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := server.Write(data)
		sent <- errors.Join(err, server.CloseWrite())
	}()
	var got bytes.Buffer
	for slow := true; ; slow = !slow {
		n, err := io.CopyN(&got, client, 2<<20)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", got.Len()+int(n), err)
		}
		if slow {
			convoyGoes(t, false) // what it could not write is left to a goroutine
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got.Bytes(), data) {
		t.Errorf("%d bytes came that are not those that were sent", got.Len())
	}
	write(t, client, "the other direction goes on")
	read(t, server, "the other direction goes on")
}

// Nobody goes round for streams that are silent.
func TestConvoyEnds(t *testing.T) {
	client, server := through(t)
	taken := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, client, 64<<20)
		taken <- err
	}()
	if _, err := server.Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	convoyGoes(t, false)
	allParked(t)
	write(t, server, "goes on")
	read(t, client, "goes on")
}

// What breaks off in the convoy breaks off on the other side.
func TestConvoyReset(t *testing.T) {
	for _, breaks := range []string{"source", "destination"} {
		t.Run(breaks, func(t *testing.T) {
			client, server := through(t)
			failed := pour(t, server, client)
			if breaks == "source" {
				reset(server)
				isReset(t, client)
			} else {
				reset(client)
			}
			<-failed
			convoyGoes(t, false)
		})
	}
}

func TestCloseWithConvoy(t *testing.T) {
	l, client, server := throughListener(t)
	pour(t, server, client)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	convoyGoes(t, false)
	isReset(t, client)
}

// One that is answered does not wait for rounds, and takes nothing with it.
func TestConvoyLeavesDialogues(t *testing.T) {
	g := guest(t)
	ends := [4]*net.TCPConn{} // source and its peer, destination and its peer
	for i := 0; i < len(ends); i += 2 {
		ends[i] = dialTCP(t, g.Addr().String())
		peer, err := g.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		ends[i+1] = peer
	}
	p := &pair{}
	p.directions[0].pair, p.directions[1].pair = p, p
	d := &p.directions[0]
	d.src, d.dst = ends[0], ends[2]
	from, err := newSource(d.src, false)
	if err != nil {
		t.Fatal(err)
	}
	var c convoy
	d.from = from
	if d.to = c.takes(d); d.to == nil {
		t.Fatal("not taken")
	}
	d.came = time.Now()
	buf := make([]byte, 100)
	write(t, ends[1], "question")
	n, stays := 0, true
	for n == 0 && stays {
		n, stays = d.haul(buf)
	}
	if n != len("question") || !stays {
		t.Fatalf("hauled %d bytes, stays %v", n, stays)
	}
	read(t, ends[3], "question")
	d.opposite().reads.Add(1)
	write(t, ends[1], "another")
	if n, stays := d.haul(buf); n != 0 || stays || !d.apart.After(time.Now()) {
		t.Errorf("after an answer: hauled %d bytes, stays %v, apart until %v", n, stays, d.apart)
	}
	read(t, d.src, "another")
}
