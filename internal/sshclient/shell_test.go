package sshclient

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestEscapes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, want   string
		disconnect bool
	}{
		{in: "ls ~/x\r", want: "ls ~/x\r"},
		{in: "~.", want: "", disconnect: true},
		{in: "ls\r~.", want: "ls\r", disconnect: true},
		{in: "ls\n~.", want: "ls\n", disconnect: true},
		{in: "ls ~.", want: "ls ~."},
		{in: "~/bin\r", want: "~/bin\r"},
		{in: "~~.", want: "~."},
		{in: "~\r~.", want: "~\r", disconnect: true},
	} {
		for name, r := range map[string]io.Reader{
			"at once":      strings.NewReader(tt.in),
			"byte by byte": iotest.OneByteReader(strings.NewReader(tt.in)),
		} {
			disconnected := false
			got, err := io.ReadAll(&escapes{r: r, lineStart: true, disconnect: func() { disconnected = true }})
			if err != nil || string(got) != tt.want || disconnected != tt.disconnect {
				t.Errorf("%q %s: %q, %v, disconnected %v; want %q, %v", tt.in, name, got, err, disconnected, tt.want, tt.disconnect)
			}
		}
	}
}
