package libvirt

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"github.com/digitalocean/go-libvirt/socket"
)

// packet is one of libvirt's protocol. src/rpc/virnetprotocol.x
func packet(kind, serial uint32, payload string) []byte {
	b := make([]byte, 0, packetHeader+len(payload))
	for _, v := range []uint32{uint32(packetHeader + len(payload)), 0x20008086, 1, 209, kind, serial, 2} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return append(b, payload...)
}

type reads struct {
	net.Conn
	io.Reader
}

func (r reads) Read(p []byte) (int, error)  { return r.Reader.Read(p) }
func (r reads) Write(p []byte) (int, error) { return len(p), nil }

func TestStreamsInOrder(t *testing.T) {
	t.Parallel()
	const reply, stream = socket.Reply, socket.Stream
	answer, data, end := packet(reply, 7, ""), packet(stream, 7, "data"), packet(stream, 7, "")
	other, otherEnd := packet(reply, 8, ""), packet(stream, 8, "")
	type packets [][]byte
	for name, c := range map[string]struct{ in, want packets }{
		"as it should be":       {packets{answer, data, data, end}, nil},
		"data first":            {packets{data, answer, end}, packets{answer, data, end}},
		"all first":             {packets{data, data, end, answer, other}, packets{answer, data, data, end, other}},
		"two streams":           {packets{otherEnd, data, other, answer, end}, packets{other, otherEnd, answer, data, end}},
		"an end twice":          {packets{answer, data, end, end, other}, packets{answer, data, end, other}},
		"an end twice, later":   {packets{answer, end, other, end, otherEnd}, packets{answer, end, other, otherEnd}},
		"an end twice, at once": {packets{end, end, answer, other}, packets{answer, end, other}},
		"empty replies":         {packets{answer, answer}, nil},
		"cut off":               {packets{answer, other[:20]}, nil},
		"no packet":             {packets{{0, 0, 0, 0}, answer}, nil},
	} {
		want := c.want
		if want == nil {
			want = c.in
		}
		for _, slow := range []bool{false, true} {
			var r io.Reader = bytes.NewReader(bytes.Join(c.in, nil))
			if slow {
				r = iotest.OneByteReader(r)
			}
			got, err := io.ReadAll(newInOrder(reads{Reader: r}))
			if name == "cut off" {
				got = append(got, other[:20]...) // it is of no use to anybody
			}
			if err != nil || !bytes.Equal(got, bytes.Join(want, nil)) {
				t.Errorf("%s: %x, %v; want %x", name, got, err, bytes.Join(want, nil))
			}
		}
	}
}

// The end of a download is confirmed once, and never in the middle of a packet.
func TestDownloadsAreFinished(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	c := newInOrder(here)
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(c, make([]byte, 4*packetHeader+4))
		read <- err
	}()
	call := packet(socket.Call, 8, "something to say")
	go func() {
		for _, part := range [][]byte{call[:2], call[2:30], call[30:]} {
			if _, err := c.Write(part); err != nil {
				t.Error(err)
			}
		}
	}()
	in := make([]byte, 30)
	if _, err := io.ReadFull(there, in); err != nil { // the caller is in the middle
		t.Fatal(err)
	}
	for _, p := range [][]byte{
		packet(socket.Reply, 7, ""), packet(socket.Stream, 7, "data"), packet(socket.Stream, 7, ""), packet(socket.Reply, 9, ""),
	} {
		if _, err := there.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-read; err != nil { // it does not wait for us
		t.Fatal(err)
	}
	finish := packet(socket.Stream, 7, "")
	binary.BigEndian.PutUint32(finish[packetStatus:], socket.StatusOK)
	want := append(bytes.Clone(call), finish...)
	rest := make([]byte, len(want)-len(in))
	if _, err := io.ReadFull(there, rest); err != nil {
		t.Fatal(err)
	}
	if got := append(in, rest...); !bytes.Equal(got, want) {
		t.Errorf("sent %x, want %x", got, want)
	}
}

func FuzzStreamsInOrder(f *testing.F) {
	f.Add(bytes.Join([][]byte{packet(socket.Stream, 7, "data"), packet(socket.Reply, 7, ""), packet(socket.Stream, 7, "")}, nil))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 28})
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := io.ReadAll(newInOrder(reads{Reader: bytes.NewReader(in)}))
		if err == nil && len(got) > len(in) {
			t.Errorf("%d bytes of %d", len(got), len(in))
		}
	})
}
