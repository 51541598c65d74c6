package hint_test

import (
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		given string
		names []string
		want  string
	}{
		{"memroy", []string{"memory", "cpus"}, "memory"},
		{"cups", []string{"memory", "cpus"}, "cpus"},
		{"frward", []string{"forward"}, "forward"},
		{"core-1", []string{"core-01", "core-02"}, "core-01"},
		{"core-3", []string{"core-02", "core-01"}, "core-01"},
		{"UP", []string{"up"}, "up"},
		{"größe", []string{"grösse"}, "grösse"},
		{"zhs", []string{"fish", "zsh"}, "zsh"},

		// These are other words.
		{"foo", []string{"cto", "fsc"}, ""},
		{"z", []string{"a", "b"}, ""},
		{"nu", []string{"sh"}, ""},
		{"", []string{"a", "ab"}, ""},
		{"qemu+libssh2", []string{"qemu+ssh"}, ""},
		{"web", nil, ""},
	} {
		if got := hint.Nearest(tt.given, tt.names); got != tt.want {
			t.Errorf("Nearest(%q, %q) = %q, want %q", tt.given, tt.names, got, tt.want)
		}
	}
}
