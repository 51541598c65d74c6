package events

import "testing"

func TestIgnore(t *testing.T) {
	t.Parallel()
	m := ignored([]string{"# comment", "", "*.log\r\n", "!kept.log", "build/", "/top"})
	for _, c := range []struct {
		path string
		dir  bool
		want bool
	}{
		{"a.log", false, true}, {"deep/a.log", false, true}, {"kept.log", false, false},
		{"build", true, true}, {"build", false, false}, {"top", false, true}, {"deep/top", false, false},
		{".hostctl", true, true}, {"deep/.hostctl", true, true}, {".hostctl", false, false}, {"file", false, false},
	} {
		if got := m.Match(c.path, c.dir); got != c.want {
			t.Errorf("%s (folder: %v): %v, want %v", c.path, c.dir, got, c.want)
		}
	}
}
