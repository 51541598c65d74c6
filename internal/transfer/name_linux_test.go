package transfer_test

import (
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/transfer"
)

// An error names the file that was asked for, not the temporary one that was
// being written.
func TestErrorsNameTheFile(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, copy way) {
		c, _ := connect(t)
		from := t.TempDir()
		write(t, from, map[string]string{"a": "A"})
		// A directory in which nobody can make files.
		_, err := copy(t.Context(), c, []string{from + "/a"}, "/proc/sys/b", transfer.Options{})
		if err == nil || !strings.HasPrefix(err.Error(), "/proc/sys/b") || strings.Contains(err.Error(), ".tmp") {
			t.Errorf("error %v", err)
		}
	})
}
