package lan

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// FuzzReadPacket lets a stream say anything: packets come out as they went in,
// and nothing is larger than QEMU's largest.
func FuzzReadPacket(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0f0123456789abcde\x00\x00\x00\x01x"))
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x01\x10\x00"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		in := bufio.NewReader(bytes.NewReader(stream))
		var read []byte
		for {
			packet, err := readPacket(in)
			if errors.Is(err, errStep) {
				if n := binary.BigEndian.Uint32(stream[len(read):]); n > 0 && n <= maxFrame {
					t.Errorf("refused a frame of %d bytes", n)
				}
				return
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Error(err)
				}
				return
			}
			read = append(read, packet...)
			if !bytes.HasPrefix(stream, read) || len(packet) > lengthSize+maxFrame {
				t.Errorf("got %x of %x", read, stream)
			}
		}
	})
}
