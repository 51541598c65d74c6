package exports

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever stands in a table, it is read without an end in sight, and every
// mistake has a line of the file.
func FuzzTable(f *testing.F) {
	for _, s := range []string{"", "/a 10.0.0.1(rw)\n", "\"/a b\" -ro,x (\\\n", "/a\\040b *()\r\n#\\\n/b", "\\", "\\\n", "\"", "/\\134101 x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, mistakes := parseTable("t", data)
		lines := bytes.Count(data, []byte("\n")) + 1
		for _, e := range entries {
			if e.line < 1 || e.line > lines || e.path == "" {
				t.Errorf("%+v", e)
			}
		}
		for _, m := range mistakes {
			if m.Line < 1 || m.Line > lines || m.What == "" {
				t.Errorf("%+v", m)
			}
		}
	})
}

// Any path comes back, alone on its line.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"a", `a\401`, `\\\1`, "a b\"", "\n#", "-ro", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		path := filepath.Clean("/" + s)
		if strings.ContainsRune(path, 0) || looksOctal.MatchString(path) {
			return
		}
		text := octal(path) + " 10.0.0.1(rw)\n"
		entries, mistakes := parseTable("t", []byte(text))
		if len(mistakes) > 0 || len(entries) != 1 || entries[0].path != path || len(entries[0].clients) != 1 || strings.Count(text, "\n") != 1 {
			t.Errorf("%q: %q gives %+v %v", path, text, entries, mistakes)
		}
	})
}

// A section that is put in and taken out leaves the file as it was, but for the
// end of its last line.
func FuzzSection(f *testing.F) {
	mine := block{projectOne, 7, []string{"/a 10.0.0.1(rw)"}}
	f.Add([]byte("x"))
	f.Add([]byte(mine.String()))
	f.Add([]byte("# hostctl " + projectOne + " uid 7 begin"))
	f.Add([]byte("# hostctl bbbbbbbbbbbb uid 7 begin\n# hostctl bbbbbbbbbbbb uid 7 end\nx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, m := findSection("t", data, projectOne)
		if m != nil {
			if m.Line < 1 || m.Line > bytes.Count(data, []byte("\n"))+1 {
				t.Errorf("%+v", m)
			}
			return
		}
		with := withSection(data, s, mine)
		again, m := findSection("t", with, projectOne)
		if m != nil || again == nil || string(with[again.from:again.to]) != mine.String() {
			t.Fatalf("%q: %v %v", with, again, m)
		}
		if s != nil {
			return
		}
		want := data
		if len(data) > 0 && data[len(data)-1] != '\n' {
			want = append(bytes.Clone(data), '\n')
		}
		if got := withSection(with, again, block{}); !bytes.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}
